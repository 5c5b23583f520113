import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { HrunError } from '../../base/errors.ts';
import { printable } from '../../base/text.ts';
import type { NetNamespace } from '../../sys/netNamespace.ts';

const limitMs = 30_000;
const mostOutputBytes = 1024 * 1024;
const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const PluginError = z.object({ msg: z.string(), details: z.string().optional() });

export interface PluginCall {
  readonly type: string;
  readonly command: 'ADD' | 'CHECK' | 'DEL';
  /** Directories in which plugins are. */
  readonly path: readonly string[];
  readonly containerId: string;
  /** Path of the container's namespace; empty when it is gone (DEL). */
  readonly netnsPath: string;
  readonly interfaceName: string;
  readonly config: object;
}

/**
 * Runs one plugin (CNI specification, section 3) in a namespace of the host and gives back what it printed, parsed.
 * @throws HrunError NETWORK_FAILED with the plugin's own words; also for one that hangs or prints no JSON
 */
export async function runPlugin(host: NetNamespace, call: PluginCall): Promise<unknown> {
  const { type, command } = call;
  const program = await findPlugin(type, call.path);
  const failed = (why: string, cause?: unknown) =>
    new HrunError('NETWORK_FAILED', `CNI plugin ${type} failed to ${command}: ${why}`, { cause });
  const child = host.run(() =>
    spawn(program, [], {
      cwd: '/',
      env: {
        PATH: systemPath,
        CNI_COMMAND: command,
        CNI_CONTAINERID: call.containerId,
        CNI_NETNS: call.netnsPath,
        CNI_IFNAME: call.interfaceName,
        CNI_PATH: call.path.join(':'),
      },
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: limitMs,
      killSignal: 'SIGKILL',
    }),
  );
  const closed = once(child, 'close');
  child.stdin.on('error', () => {}).end(JSON.stringify(call.config));
  let [said, complained] = ['', ''];
  child.stdout.on('data', (bytes: Buffer) => {
    if (said.length < mostOutputBytes) said += bytes.toString('utf8');
  });
  child.stderr.on('data', (bytes: Buffer) => {
    if (complained.length < mostOutputBytes) complained += bytes.toString('utf8');
  });
  await closed.catch((cause: unknown) => {
    throw failed('it could not be run', cause);
  });
  if (child.signalCode !== null) throw failed(`it did not end within ${limitMs / 1000} s`);
  const answer = readJson(said);
  if (child.exitCode === 0) {
    if (said.trim() === '') return undefined;
    if (answer === undefined) throw failed('it printed no JSON');
    return answer;
  }
  const error = PluginError.safeParse(answer).data;
  const words =
    error === undefined ? complained || said : [error.msg, error.details ?? ''].filter(Boolean).join(': ');
  throw failed(printable(words.trim() || `exit code ${child.exitCode}`, 500));
}

async function findPlugin(type: string, path: readonly string[]): Promise<string> {
  for (const directory of path) {
    const program = join(directory, type);
    const there = await access(program, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (there) return program;
  }
  throw new HrunError('NETWORK_FAILED', `CNI plugin ${type} is not in ${path.join(' or ')}`, {
    hint: 'apt-get install containernetworking-plugins, or name its directory with "cniPath" in the configuration',
  });
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
