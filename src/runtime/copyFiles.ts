import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, HrunError } from '../base/errors.ts';
import { PhaseClock } from '../base/phases.ts';
import type { GuestVm } from '../pool/guestVm.ts';
import type { ContainerRecord } from './containerRecord.ts';
import type { Caller, CopyInRequest, CopyOutRequest } from './engine.ts';
import { guestContainer } from './guestContainer.ts';
import { openContainerVm } from './launchContainer.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';
import type { ContainerPathStat } from './views.ts';

const mebibyte = 1024 * 1024;
const sectorBytes = 512;

/** Nothing runs that could look a name up. */
const noNames = { hosts: '', resolvConf: '' };

/** What lies at a path of a container, running or not. @throws HrunError NOT_FOUND */
export async function statPath(
  record: ContainerRecord,
  path: string,
  followLink: boolean,
  caller: Caller,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<ContainerPathStat> {
  await using mounted = await mountedContainer(record, caller, deps, signal);
  const { client } = await mounted.guest.agent(signal);
  const found = await client.statPath({ containerId: record.id, path, followLink }, signal);
  return {
    name: found.name,
    sizeBytes: Number(found.size),
    mode: found.mode,
    mtimeMs: Number(found.mtimeS) * 1000,
    linkTarget: found.linkTarget,
  };
}

/** Copies a path out of a container as a tar, over a disk. */
export async function copyOut(
  record: ContainerRecord,
  { path, followLink, archive, contentOnly = false, target }: CopyOutRequest,
  caller: Caller,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<{ readonly bytes: number }> {
  await using mounted = await mountedContainer(record, caller, deps, signal);
  const { guest } = mounted;
  const { client } = await guest.agent(signal);
  const { tarSizeEstimate } = await client.statPath({ containerId: record.id, path, followLink }, signal);
  const roomBytes = Math.ceil(Number(tarSizeEstimate) / mebibyte + 1) * mebibyte;
  await using disk = await transferDisk(record, deps, roomBytes);
  const { length } = await withDisk(guest, disk, false, signal, (serial) =>
    client.packPath({ containerId: record.id, path, followLink, targetSerial: serial, contentOnly }, signal),
  );
  const bytes = Number(length);
  if (bytes > roomBytes)
    throw new HrunError('AGENT_PROTOCOL', `the agent wrote ${bytes} bytes to a smaller disk`);
  await truncate(disk.path, bytes);
  if (target.kind === 'directory') {
    const { directory, name } = target;
    await caller.files.unpack({ inputPath: disk.path, length: bytes, directory, name, archive }, signal);
  } else {
    for await (const chunk of createReadStream(disk.path, { highWaterMark: 256 * 1024 })) {
      await target.write(chunk, signal);
    }
  }
  return { bytes };
}

/** Copies a tar into a directory of a container, over a disk. */
export async function copyIn(
  record: ContainerRecord,
  { directory, archive, source }: CopyInRequest,
  caller: Caller,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<{ readonly bytes: number }> {
  await using disk = await transferDisk(record, deps, 0);
  const bytes =
    source.kind === 'path'
      ? (await caller.files.pack({ ...source, archive, outputPath: disk.path }, signal)).bytes
      : await writeStream(source.bytes, disk.path, signal);
  await truncate(disk.path, Math.max(Math.ceil(bytes / sectorBytes) * sectorBytes, mebibyte));
  await using mounted = await mountedContainer(record, caller, deps, signal);
  const { guest } = mounted;
  const { client } = await guest.agent(signal);
  await withDisk(guest, disk, true, signal, (serial) =>
    client.extractArchive(
      {
        containerId: record.id,
        directory,
        sourceSerial: serial,
        length: BigInt(bytes),
        noOverwriteDirNonDir: true,
      },
      signal,
    ),
  );
  return { bytes };
}

interface TransferDisk extends AsyncDisposable {
  readonly path: string;
  readonly serial: string;
}

async function transferDisk(
  record: ContainerRecord,
  deps: RuntimeDeps,
  sizeBytes: number,
): Promise<TransferDisk> {
  const serial = `copy-${randomBytes(6).toString('hex')}`;
  const path = join(deps.store.directoryOf(record.id), `${serial}.tar`);
  await using file = await open(path, 'wx', 0o600);
  await file.truncate(sizeBytes);
  return { path, serial, [Symbol.asyncDispose]: () => rm(path, { force: true }) };
}

async function withDisk<T>(
  guest: GuestVm,
  { path, serial }: TransferDisk,
  readonly: boolean,
  signal: AbortSignal,
  work: (serial: string) => Promise<T>,
): Promise<T> {
  await guest.vm.plugDisk({ serial, path, readonly }, signal);
  try {
    return await work(serial);
  } finally {
    await guest.vm.unplugDisk(serial, AbortSignal.timeout(guest.limits.agentTimeoutMs));
  }
}

async function writeStream(bytes: AsyncIterable<Buffer>, path: string, signal: AbortSignal): Promise<number> {
  await using file = await open(path, 'r+');
  let length = 0;
  for await (const chunk of bytes) {
    signal.throwIfAborted();
    try {
      await file.writeFile(chunk);
    } catch (cause) {
      if (errnoOf(cause) !== 'ENOSPC') throw cause;
      throw new HrunError('DISK_FULL', `no space left for ${path}`, { cause });
    }
    length += chunk.length;
  }
  return length;
}

/** The container's own microVM, or one made for the moment when it does not run. */
async function mountedContainer(
  record: ContainerRecord,
  caller: Caller,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<{ readonly guest: GuestVm } & AsyncDisposable> {
  await using undo = new AsyncDisposableStack();
  undo.use(await deps.live.disks.lock(record.id, signal));
  const running = deps.live.get(record.id);
  if (running !== undefined) return { guest: running.guest, [Symbol.asyncDispose]: async () => {} };
  undo.defer(async () => void (await deps.store.update(record.id, { vm: undefined, vmRunDir: undefined })));
  const options = { files: caller.files, progress: caller.progress, phases: new PhaseClock(deps.now) };
  const opened = undo.use(await openContainerVm(record, deps, options, signal));
  const { guest, root, mounts, distinct } = opened;
  await distinct;
  const { client } = await guest.agent(signal);
  await client.createContainer(guestContainer(record, root, undefined, noNames, mounts), signal);
  // The disk is written back before the VM goes.
  undo.defer(() => client.deleteContainer(record.id, AbortSignal.timeout(guest.limits.agentTimeoutMs)));
  const owned = undo.move();
  return { guest, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
