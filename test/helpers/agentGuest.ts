import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { AgentClient } from '../../src/agent/client.ts';
import { failureReasonOf } from '../../src/agent/failure.ts';
import type { CreateContainerInit, MountInit, ProcessExit, ProcessInit } from '../../src/agent/types.ts';
import {
  defaultCapabilities,
  defaultDevices,
  defaultMounts,
  defaultPath,
  maskedPaths,
  readonlyPaths,
} from '../../src/oci/defaults.ts';
import type { MicroVm } from '../../src/vmm/microVm.ts';
import { bootTestVm, connectTestAgent } from './microvm.ts';
import { temporaryDirectory } from './tempDir.ts';

const run = promisify(execFile);
const applets = [
  'sh',
  'cat',
  'dd',
  'grep',
  'head',
  'id',
  'ls',
  'mknod',
  'pwd',
  'readlink',
  'seq',
  'sleep',
  'stty',
  'tail',
  'test',
  'touch',
  'true',
  'tty',
  'wc',
];

export const soon = () => AbortSignal.timeout(60_000);

// plain objects, without the generated messages that could stand in for them
export type ProcessFields = Extract<ProcessInit, { readonly $typeName?: never }>;
export type ContainerFields = Extract<CreateContainerInit, { readonly $typeName?: never }>;

export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  readonly exit: ProcessExit;
}

/** A microVM with an image of busybox and an empty scratch disk, and its agent. Containers go one after the other. */
export interface AgentGuest extends AsyncDisposable {
  readonly client: AgentClient;
  readonly vm: MicroVm;
  /** Runs one container to its end. */
  run(process: ProcessFields, change?: ContainerFields, input?: string): Promise<Outcome>;
  /** Starts a container that is deleted on dispose. */
  start(process: ProcessFields, change?: ContainerFields): Promise<{ readonly id: string } & AsyncDisposable>;
  /** Output and exit of one process, acknowledged as it comes. */
  follow(containerId: string, processId?: string, input?: string): Promise<Outcome>;
}

export async function openAgentGuest(): Promise<AgentGuest> {
  await using undo = new AsyncDisposableStack();
  const { path } = undo.use(await temporaryDirectory());
  const guest = undo.use(
    await bootTestVm({
      imageDisk: { serial: 'image', path: await imageDisk(path), readonly: true },
      scratchDisk: { serial: 'scratch', path: await emptyDisk(path), readonly: false },
    }),
  );
  const { client } = undo.use(await connectTestAgent(guest.vm));
  let count = 0;
  const start: AgentGuest['start'] = async (process, change = {}) => {
    count += 1;
    const id = `c${count}`;
    await client.createContainer(containerRequest(id, process, change), soon());
    await using created = new AsyncDisposableStack();
    created.defer(() => client.deleteContainer(id, soon()));
    await client.startContainer(id, soon());
    const owned = created.move();
    return { id, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  };
  const follow: AgentGuest['follow'] = (id, processId = 'init', input) =>
    followProcess(client, id, processId, input);
  const owned = undo.move();
  return {
    client,
    vm: guest.vm,
    start,
    follow,
    run: async (process, change, input) => {
      await using container = await start(process, change);
      return await follow(container.id, 'init', input);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

export function personalization() {
  return {
    entropy: randomBytes(32),
    realtimeNs: BigInt(Date.now()) * 1_000_000n,
    hostname: 'guest',
    machineId: randomBytes(16).toString('hex'),
  };
}

export function command(args: readonly string[], change: ProcessFields = {}): ProcessFields {
  const names = [...defaultCapabilities];
  const capabilities = { bounding: names, effective: names, permitted: names, inheritable: [], ambient: [] };
  return { args: [...args], env: [`PATH=${defaultPath}`], cwd: '/', capabilities, ...change };
}

export function shell(script: string, change: ProcessFields = {}): ProcessFields {
  return command(['sh', '-c', script], change);
}

export function kernelMount(destination: string, type: string, options: readonly string[]): MountInit {
  return { destination, options: [...options], source: { case: 'kernel', value: { type, source: type } } };
}

export const usualMounts: readonly MountInit[] = defaultMounts.map(({ destination, type, options }) =>
  kernelMount(destination, type, options),
);

export function containerRequest(
  containerId: string,
  process: ProcessFields,
  change: ContainerFields = {},
): ContainerFields {
  return {
    containerId,
    rootfs: { case: 'disks', value: { imageSerial: 'image', imageFs: 'ext4', scratchSerial: 'scratch' } },
    hostname: 'box',
    mounts: [...usualMounts],
    devices: defaultDevices.map((device) => ({ ...device })),
    maskedPaths: [...maskedPaths],
    readonlyPaths: [...readonlyPaths],
    process,
    ...change,
  };
}

/** Why the agent refused. */
export async function refusal(
  call: Promise<unknown>,
): Promise<{ readonly reason?: string; readonly message: string }> {
  try {
    await call;
  } catch (error) {
    const reason = failureReasonOf(error);
    return {
      ...(reason !== undefined && { reason }),
      message: error instanceof Error ? error.message : String(error),
    };
  }
  throw new Error('the agent did not refuse');
}

export async function followProcess(
  client: AgentClient,
  containerId: string,
  processId: string,
  input: string | undefined,
): Promise<Outcome> {
  const offsets = { stdoutOffset: 0n, stderrOffset: 0n };
  using attachment = await client.attach({ containerId, processId, ...offsets }, soon());
  if (input !== undefined) {
    const data = Buffer.from(input);
    await attachment.send({ case: 'stdin', value: { offset: 0n, data } });
    await attachment.send({ case: 'stdinEnd', value: { offset: BigInt(data.length) } });
  }
  const chunks: { stdout: Uint8Array[]; stderr: Uint8Array[] } = { stdout: [], stderr: [] };
  for await (const output of attachment.outputs) {
    if (output.case === 'exit') {
      return { stdout: text(chunks.stdout), stderr: text(chunks.stderr), exit: output.value };
    }
    if (output.case === 'stdinAccepted') continue;
    const { offset, data } = output.value;
    const next = output.case === 'stdout' ? 'stdoutOffset' : 'stderrOffset';
    if (offset !== offsets[next])
      throw new Error(`a gap in ${output.case}: ${offset} after ${offsets[next]}`);
    offsets[next] += BigInt(data.length);
    chunks[output.case].push(data);
    await attachment.send({ case: 'ack', value: { ...offsets } });
  }
  throw new Error('the attachment ended without an exit');
}

function text(chunks: readonly Uint8Array[]): string {
  return Buffer.concat(chunks).toString();
}

async function imageDisk(directory: string): Promise<string> {
  const root = join(directory, 'root');
  for (const name of ['bin', 'etc', 'data', 'tmp', 'proc', 'sys', 'dev'])
    await mkdir(join(root, name), { recursive: true });
  await copyFile('/usr/bin/busybox', join(root, 'bin/busybox'));
  for (const applet of applets) await symlink('busybox', join(root, 'bin', applet));
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/srv:/bin/sh\n');
  await writeFile(join(root, 'etc/group'), 'root:x:0:\nwheel:x:10:root,web\nweb:x:33:\n');
  await writeFile(join(root, 'data/file'), 'from the image\n');
  await writeFile(join(root, 'bin/plain'), 'x', { mode: 0o644 });
  await writeFile(join(root, 'bin/garbage'), 'x', { mode: 0o755 });
  await writeFile(join(root, 'bin/orphan'), '#!/no/such/interpreter\n', { mode: 0o755 });
  const disk = join(directory, 'image.ext4');
  await run('mkfs.ext4', ['-q', '-O', '^has_journal', '-E', 'root_owner=0:0', '-d', root, disk, '16M']);
  return disk;
}

async function emptyDisk(directory: string): Promise<string> {
  const disk = join(directory, 'scratch.ext4');
  await run('mkfs.ext4', ['-q', '-O', '^has_journal', disk, '256M']);
  return disk;
}
