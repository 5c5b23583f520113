import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { type ErrorCode, HrunError } from '../../src/base/errors.ts';
import { newContainerId, parseDigest } from '../../src/base/ids.ts';
import { readSessionRecord, writeSessionRecord } from '../../src/daemon/sessionRecords.ts';
import { readIndex, writeIndex } from '../../src/image/imageIndex.ts';
import { NetworkStore } from '../../src/network/networkStore.ts';
import { ContainerStore } from '../../src/runtime/containerStore.ts';
import { followOutput } from '../../src/runtime/followOutput.ts';
import type { OciRecord } from '../../src/runtime/oci/ociRecord.ts';
import { OciStore } from '../../src/runtime/oci/ociStore.ts';
import { OutputLog } from '../../src/runtime/outputLog.ts';
import { VolumeStore } from '../../src/runtime/volumes/volumeStore.ts';
import { containerRecord } from '../helpers/containerRecord.ts';
import { fuzz, unlessRejected } from '../helpers/fuzz.ts';

const never = new AbortController().signal;
const directory = await mkdtemp(join(tmpdir(), 'hrun-fuzz-'));
const placeOf = (name: string) => join(directory, name);

/** A state file: where it is, and what its store says that it holds. */
interface StateFile {
  readonly name: string;
  readonly path: string;
  readonly refusals: readonly ErrorCode[];
  read(): Promise<unknown>;
}

const files: StateFile[] = [];

/** What a store has, when it could read all of it. */
function readable(kept: { readonly damages: readonly unknown[]; list(): unknown }): unknown {
  if (kept.damages.length > 0) throw new HrunError('STATE_DAMAGED', 'it is among the damaged');
  return kept.list();
}

const container = containerRecord('one');
const containers = placeOf('containers');
await (await ContainerStore.open(containers)).add(container);
files.push({
  name: 'container.json',
  path: join(containers, container.id, 'container.json'),
  refusals: ['STATE_DAMAGED'],
  read: async () => readable(await ContainerStore.open(containers)),
});

const oci = placeOf('oci');
const ociRecord: OciRecord = {
  version: 1,
  id: newContainerId(),
  name: 'box',
  scope: '8:1',
  bundle: '/b',
  rootfs: '/b/rootfs',
  ociVersion: '1.2.0',
  annotations: { a: 'b' },
  createdAt: '2026-01-01T00:00:00Z',
  ownerUid: 0,
  status: 'stopped',
  paused: false,
  exitCode: 7,
  oomKilled: false,
  error: '',
  sandbox: newContainerId(),
  vmRunDir: '/r/v',
  runDir: '/r/c',
  vmMemoryMiB: 576,
  vcpus: 1,
  cgroups: [{ controllers: ['cpu'], directory: '/sys/fs/cgroup/x' }],
  execs: [],
  relaysNames: false,
  interfaces: ['eth0'],
};
await (await OciStore.open(oci)).add(ociRecord, Buffer.from('{}'));
files.push({
  name: 'state.json',
  path: join(oci, ociRecord.id, 'state.json'),
  refusals: ['STATE_DAMAGED'],
  read: async () => {
    const found = await OciStore.open(oci);
    return readable({ damages: found.lost, list: () => found.list() });
  },
});

const volumes = placeOf('volumes');
const store = await VolumeStore.open(volumes, 1e9);
await store.ensure({ name: 'data', driver: 'dir', labels: { a: 'b' }, anonymous: false }, never);
files.push({
  name: 'volume.json',
  path: join(volumes, 'data', 'volume.json'),
  refusals: ['STATE_DAMAGED'],
  read: async () => readable(await VolumeStore.open(volumes, 1e9)),
});

const networks = placeOf('networks');
const builtIn = {
  version: 1,
  id: '0'.repeat(64),
  name: 'bridge',
  createdAt: '2026-01-01T00:00:00Z',
  bridge: 'hrun0',
  gateway4: '10.213.0.1/16',
  internal: false,
  mtu: 1500,
  labels: {},
} as const;
const network = await (await NetworkStore.open(networks, builtIn)).create(
  { name: 'mine', subnets: [], gateways: [], ipv6: true, internal: false, mtu: 1500, labels: {} },
  () => undefined,
);
files.push({
  name: 'network.json',
  path: join(networks, `${network.id}.json`),
  refusals: ['STATE_DAMAGED'],
  read: async () => readable(await NetworkStore.open(networks, builtIn)),
});

const digest = parseDigest(`sha256:${'a'.repeat(64)}`);
const index = placeOf('index.json');
await writeIndex(index, [
  {
    id: digest,
    configSize: 10,
    manifestDigest: digest,
    names: ['docker.io/library/busybox:latest'],
    repoDigests: [],
    layers: [{ digest, diffId: digest, mediaType: 'x', size: 5 }],
    storedAt: '2026-01-01T00:00:00Z',
  },
]);
files.push({ name: 'index.json', path: index, refusals: ['STATE_DAMAGED'], read: () => readIndex(index) });

const sessions = placeOf('sessions');
await mkdir(sessions);
const token = 'b'.repeat(64);
await writeSessionRecord(sessions, token, {
  frontDoor: { pid: 5, startTicks: '77' },
  attach: {
    containerId: container.id,
    processId: 'init',
    stdoutBase: 0n,
    stderrBase: 0n,
    stdoutFrom: 5n,
    stderrFrom: 0n,
    stdinBase: 0n,
    ownsOutput: true,
    terminal: false,
    openStdin: true,
    signalProxy: true,
    detachKeys: [16, 17],
    timing: false,
  },
  exitCode: 3,
});
files.push({
  name: 'session.json',
  path: join(sessions, `${token}.json`),
  refusals: [],
  // a command whose record is no good is told that it is not known
  read: () => readSessionRecord(sessions, token),
});

const logPath = placeOf('output.log');
{
  await using log = await OutputLog.open(logPath, { maxBytes: 1e6, maxFiles: 2 });
  for (let at = 0; at < 10; at += 1) {
    await log.append('stdout', BigInt(at * 4), Buffer.from(`out${at}`), 1n);
    await log.append('stderr', BigInt(at * 5), Buffer.from(`err ${at}`), 2n);
  }
}
const wholeLog = await readFile(logPath);
const seeds = await Promise.all(
  files.map(async (file) => ({ ...file, whole: await readFile(file.path), truth: await file.read() })),
);

describe('fuzzing state files', () => {
  after(() => rm(directory, { recursive: true }));

  // One place is damaged: the file is refused, or what it says is what was written.
  for (const { name, path, refusals, read, whole, truth } of seeds) {
    fuzz({
      name,
      seeds: [whole],
      mostEdits: 1,
      async check(bytes) {
        await mkdir(join(path, '..'), { recursive: true });
        await writeFile(path, bytes);
        const found = await unlessRejected(refusals, read);
        // nothing but zeroes never was a state file: the host died before it reached its disk
        if (found === undefined || /^\0*$/.test(bytes.toString('latin1'))) return;
        expect(found).to.deep.equal(truth);
      },
    });
  }

  fuzz({
    name: 'output.log',
    seeds: [wholeLog],
    mostEdits: 1,
    async check(bytes) {
      await writeFile(logPath, bytes);
      await using log = await OutputLog.open(logPath, { maxBytes: 1e6, maxFiles: 2 });
      const next = { stdout: 0n, stderr: 0n };
      const options = { from: { ...next }, follow: false, holdWriter: false };
      for await (const { stream, offset, data } of followOutput(log, options, never)) {
        expect(offset >= next[stream]).to.equal(true);
        next[stream] = offset + BigInt(data.length);
      }
      const { stdout, stderr } = log.lengths;
      expect(next.stdout <= stdout && next.stderr <= stderr).to.equal(true);
      expect(stdout <= 40n && stderr <= 50n).to.equal(true);
      // it can be written to at once
      await log.append('stdout', stdout, Buffer.from('more'), 3n);
    },
  });
});
