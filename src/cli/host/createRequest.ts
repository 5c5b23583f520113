import { posix } from 'node:path';
import { HrunError } from '../../base/errors.ts';
import { parseJailStep } from '../../base/jailSteps.ts';
import type { CreateRequest } from '../../runtime/runRequest.ts';
import { parseEnvFile, parseLabel, parseLabelFile, parseVariable } from '../parse/environment.ts';
import { parseCapability, parseSysctl, parseUlimit } from '../parse/limits.ts';
import { parseLogOptions } from '../parse/logOptions.ts';
import { parseMount } from '../parse/mountFlag.ts';
import { parseTmpfs, refuseDuplicates } from '../parse/mounts.ts';
import { parseVolume } from '../parse/volumeFlag.ts';
import type { Session } from '../session.ts';
import type { CreateFlags } from './createFlags.ts';
import { networkWish } from './networkFlags.ts';
import { sharedNetwork } from './sharedNetworkFlags.ts';

const maxFileBytes = 1024 * 1024;

/**
 * Options and arguments of `run` or `create` as a request. Reads env and label files through the caller's hands.
 * @throws HrunError INVALID_ARGUMENT, or HAND_FAILED for a file that cannot be read
 */
export async function createRequest(
  flags: CreateFlags,
  [image = '', ...command]: readonly string[],
  session: Pick<Session, 'environment' | 'cwd' | 'files' | 'signal'>,
): Promise<CreateRequest> {
  if (image === '' || image.startsWith('-')) {
    throw new HrunError('INVALID_ARGUMENT', `invalid image name: "${image}"`);
  }
  if (flags.workdir !== undefined && !flags.workdir.startsWith('/')) {
    throw new HrunError('INVALID_ARGUMENT', `the working directory "${flags.workdir}" must be absolute`);
  }
  if (flags.user !== undefined && !/^[^\s:]+(:[^\s:]+)?$/.test(flags.user)) {
    throw new HrunError('INVALID_ARGUMENT', `invalid user: "${flags.user}"`);
  }
  return {
    image,
    command,
    openStdin: flags.interactive === true,
    terminal: flags.tty === true,
    autoRemove: flags.rm === true,
    init: flags.init === true,
    environment: await environmentOf(flags, session),
    labels: await labelsOf(flags, session),
    ...mountsOf(flags, session.cwd),
    readonlyRootfs: flags.readOnly === true,
    capAdd: flags.capAdd.map(parseCapability),
    capDrop: flags.capDrop.map(parseCapability),
    ulimits: flags.ulimit.map(parseUlimit),
    sysctls: Object.fromEntries(flags.sysctl.map(parseSysctl)),
    cold: flags.cold === true,
    ...(flags.allowWeakerJail.length > 0 && { allowWeakerJail: flags.allowWeakerJail.map(parseJailStep) }),
    network: sharedNetwork(flags) ?? networkWish(flags),
    ...logOf(flags),
    pull: flags.pull,
    insecure: flags.insecure === true,
    ...(flags.entrypoint !== undefined && { entrypoint: flags.entrypoint === '' ? [] : [flags.entrypoint] }),
    ...(flags.name !== undefined && { name: flags.name }),
    ...(flags.workdir !== undefined && { workingDir: posix.normalize(flags.workdir) }),
    ...(flags.user !== undefined && { user: flags.user }),
    ...(flags.hostname !== undefined && { hostname: flags.hostname }),
    ...(flags.domainname !== undefined && { domainname: flags.domainname }),
    ...(flags.pidsLimit !== undefined && flags.pidsLimit > 0 && { pidsLimit: flags.pidsLimit }),
    ...(flags.shmSize !== undefined && { shmSizeBytes: flags.shmSize }),
    ...(flags.memory !== undefined && { memoryBytes: flags.memory }),
    ...(flags.cpus !== undefined && { cpus: flags.cpus }),
    ...(flags.storageSize !== undefined && { storageBytes: flags.storageSize }),
    ...(flags.kernel !== undefined && { kernelPath: posix.resolve(session.cwd, flags.kernel) }),
    ...(flags.accel !== undefined && { accelerator: flags.accel }),
    ...(flags.stopSignal !== undefined && { stopSignal: flags.stopSignal }),
    ...(flags.stopTimeout !== undefined && { stopTimeoutS: flags.stopTimeout }),
    ...(flags.templateScope !== undefined && { templateScope: flags.templateScope }),
    ...(flags.platform !== undefined && { platform: flags.platform }),
  };
}

function logOf({ logDriver, logOpt }: CreateFlags): Pick<CreateRequest, 'log'> {
  const log = parseLogOptions(logDriver, logOpt);
  return log === undefined ? {} : { log };
}

type Reader = Pick<Session, 'environment' | 'files' | 'signal'>;

async function environmentOf(flags: CreateFlags, session: Reader): Promise<CreateRequest['environment']> {
  const fromFiles = await readFiles(flags.envFile, session, (content, path) =>
    parseEnvFile(content, path, session.environment),
  );
  return [...fromFiles, ...flags.env.map((text) => parseVariable(text, session.environment))];
}

async function labelsOf(flags: CreateFlags, session: Reader): Promise<CreateRequest['labels']> {
  const fromFiles = await readFiles(flags.labelFile, session, parseLabelFile);
  return Object.fromEntries([...fromFiles, ...flags.label.map(parseLabel)]);
}

async function readFiles<T>(
  paths: readonly string[],
  { files, signal }: Reader,
  parse: (content: Buffer, path: string) => readonly T[],
): Promise<T[]> {
  const parsed: T[] = [];
  for (const path of paths) parsed.push(...parse(await files.readFile(path, maxFileBytes, signal), path));
  return parsed;
}

type Mounts = Pick<
  CreateRequest,
  'binds' | 'anonymousVolumes' | 'namedVolumes' | 'tmpfs' | 'disks' | 'imageMounts'
>;

function mountsOf(flags: CreateFlags, cwd: string): Mounts {
  const all = [
    ...flags.volume.map((text) => parseVolume(text, cwd)),
    ...flags.mount.map((text) => parseMount(text, cwd)),
  ];
  const mounts = {
    binds: all.flatMap((mount) => (mount.type === 'bind' ? [mount.bind] : [])),
    namedVolumes: all.flatMap((mount) => (mount.type === 'volume' ? [mount.volume] : [])),
    tmpfs: [
      ...flags.tmpfs.map(parseTmpfs),
      ...all.flatMap((mount) => (mount.type === 'tmpfs' ? [mount.tmpfs] : [])),
    ],
    disks: all.flatMap((mount) => (mount.type === 'disk' ? [mount.disk] : [])),
    imageMounts: all.flatMap((mount) => (mount.type === 'image' ? [mount.image] : [])),
  };
  const anonymousVolumes = all.flatMap((mount) => (mount.type === 'anonymous' ? [mount.destination] : []));
  const placed = Object.values(mounts).flatMap((list) => list.map(({ destination }) => destination));
  refuseDuplicates([...placed, ...anonymousVolumes]);
  return { ...mounts, anonymousVolumes };
}
