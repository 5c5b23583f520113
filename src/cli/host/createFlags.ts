import { type Command, Option } from 'commander';
import { parseTemplateScope } from '../../base/templateScope.ts';
import type { PullPolicy } from '../../runtime/runRequest.ts';
import { addList, checked, integerOption, parseSignal, sizeOption } from '../flags.ts';
import { parseContainerName, parseCpus, parseHostname, parsePlatform } from '../parse/limits.ts';
import { addNetworkFlags, type NetworkFlags } from './networkFlags.ts';

/** The options that `run` and `create` share, as commander leaves them. */
export interface CreateFlags extends NetworkFlags {
  readonly accel?: 'auto' | 'kvm' | 'tcg';
  readonly allowWeakerJail: readonly string[];
  readonly capAdd: readonly string[];
  readonly capDrop: readonly string[];
  readonly cidfile?: string;
  readonly cold?: true;
  readonly cpus?: number;
  readonly domainname?: string;
  readonly entrypoint?: string;
  readonly env: readonly string[];
  readonly envFile: readonly string[];
  readonly hostname?: string;
  readonly init?: true;
  readonly insecure?: true;
  readonly interactive?: true;
  readonly kernel?: string;
  readonly label: readonly string[];
  readonly labelFile: readonly string[];
  readonly logDriver?: string;
  readonly logOpt: readonly string[];
  readonly memory?: number;
  readonly mount: readonly string[];
  readonly name?: string;
  readonly pidsLimit?: number;
  readonly platform?: ReturnType<typeof parsePlatform>;
  readonly pull: PullPolicy;
  readonly quiet?: true;
  readonly readOnly?: true;
  readonly rm?: true;
  readonly shmSize?: number;
  readonly stopSignal?: number;
  readonly stopTimeout?: number;
  readonly storageSize?: number;
  readonly sysctl: readonly string[];
  readonly templateScope?: ReturnType<typeof parseTemplateScope>;
  readonly tmpfs: readonly string[];
  readonly tty?: true;
  readonly ulimit: readonly string[];
  readonly user?: string;
  readonly volume: readonly string[];
  readonly workdir?: string;
}

/** Adds them, in the order in which help shows them. */
export function addCreateFlags(command: Command): void {
  const choice = (flags: string, description: string, values: readonly string[], preset?: string) =>
    command.addOption(new Option(flags, description).choices(values).default(preset));
  choice('--accel <accelerator>', 'What the microVM runs on', ['auto', 'kvm', 'tcg']);
  addList(command, '--allow-weaker-jail <step>', "Go without a step of QEMU's jail where it is impossible");
  addList(command, '--cap-add <capability>', 'Add a Linux capability, or ALL');
  addList(command, '--cap-drop <capability>', 'Drop a Linux capability, or ALL');
  command.option('--cidfile <path>', 'Write the container id to this file');
  command.option('--cold', 'Boot the microVM instead of cloning one');
  command.option('--cpus <number>', 'Number of CPUs, may be a fraction', checked(parseCpus));
  command.option('--domainname <name>', "The container's NIS domain name", checked(parseHostname));
  command.option('--entrypoint <command>', "Replace the image's entrypoint");
  addList(
    command,
    '-e, --env <variable>',
    'Set an environment variable: NAME=value, or NAME for the own value',
  );
  addList(command, '--env-file <path>', 'Read environment variables from a file');
  command.option('-h, --hostname <name>', "The container's host name", checked(parseHostname));
  command.option('--init', 'Run a small init as pid 1: it passes signals on and reaps processes');
  command.option('--insecure', 'Accept plain http, or any certificate, from the registry');
  command.option('-i, --interactive', 'Keep stdin open');
  command.option('--kernel <path>', 'Boot this uncompressed kernel instead of the built-in one');
  addList(command, '-l, --label <label>', 'Set a label: KEY=value');
  addList(command, '--label-file <path>', 'Read labels from a file');
  command.option(
    '--log-driver <driver>',
    'Where output is kept: json-file or local, which are the same here',
  );
  addList(command, '--log-opt <option>', 'How much output is kept: max-size=SIZE, max-file=NUMBER');
  command.option('-m, --memory <size>', 'Memory of the container', sizeOption('--memory'));
  addList(
    command,
    '--mount <mount>',
    'Mount: type=bind|volume|tmpfs|image|disk,src=SOURCE,dst=PATH[,readonly]…',
  );
  command.option('--name <name>', 'Name the container', checked(parseContainerName));
  addNetworkFlags(command);
  command.option('--pids-limit <number>', 'Most processes in the container; -1: no limit', integerOption(-1));
  command.option('--platform <platform>', 'Choose one of a multi-platform image', checked(parsePlatform));
  choice('--pull <when>', 'Pull the image', ['always', 'missing', 'never'], 'missing');
  command.option('-q, --quiet', 'Do not show the progress of a pull');
  command.option('--read-only', "Mount the container's root read-only");
  command.option('--rm', 'Remove the container when it ends');
  command.option('--shm-size <size>', 'Size of /dev/shm', sizeOption('--shm-size'));
  command.option('--stop-signal <signal>', 'Signal that stops the container', checked(parseSignal));
  command.option('--stop-timeout <seconds>', 'How long to wait before killing it', integerOption(-1));
  command.option('--storage-size <size>', 'Size of the writable disk', sizeOption('--storage-size'));
  addList(command, '--sysctl <setting>', 'Set a kernel parameter: NAME=value');
  command.option(
    '--template-scope <scope>',
    'Whose microVMs may share memory with it: host, none or tenant=NAME',
    checked(parseTemplateScope),
  );
  addList(command, '--tmpfs <mount>', 'Mount a tmpfs: PATH[:options]');
  command.option('-t, --tty', 'Give the container a terminal');
  addList(command, '--ulimit <limit>', 'Set a limit: NAME=SOFT[:HARD]');
  command.option('-u, --user <user>', 'User (and group) to run as: NAME|UID[:GROUP|GID]');
  addList(
    command,
    '-v, --volume <mount>',
    'Mount a directory, file or volume: HOST_PATH|NAME:CONTAINER[:ro]',
  );
  command.option('-w, --workdir <path>', 'Working directory inside the container');
}
