import { access, constants, readFile, stat, statfs } from 'node:fs/promises';
import { type Damage, describeDamage } from '../base/damage.ts';
import { HrunError, messageOf } from '../base/errors.ts';
import { findTool } from '../base/findTool.ts';
import type { ClosedChain } from '../network/foreignFirewall.ts';
import type { JailFinding } from '../vmm/jail/examine.ts';
import type { DoctorCheck } from './views.ts';

export interface DoctorDeps {
  readonly root: string;
  readonly run: string;
  readonly kernelPath: string;
  readonly initramfsPath: string;
  /** Path and version of the QEMU in use. @throws HrunError QEMU_MISSING */
  qemu(signal: AbortSignal): Promise<{ readonly path: string; readonly version: string }>;
  /** What guests run on here, found out by running one, and why it is not KVM. */
  accelerator(
    signal: AbortSignal,
  ): Promise<{ readonly accelerator: 'kvm' | 'tcg'; readonly reason?: string }>;
  /** What QEMU is locked in with, found out by doing it. */
  jail(signal: AbortSignal): Promise<readonly JailFinding[]>;
  /** Firewalls of others that keep containers from what is beyond the host, where the caller is. */
  closedChains(): Promise<readonly ClosedChain[]>;
  /** The share server for bind mounts, if there is one. */
  shareServer(): Promise<string | undefined>;
  /** What of the state on disk cannot be read. */
  damages(): readonly Damage[];
}

const gibibyte = 1024 ** 3;
const oldestQemu = [7, 2] as const;

/** Looks at this host, check by check: what hrun needs, what it finds, what to do. Changes nothing. */
export async function* examineHost(deps: DoctorDeps, signal: AbortSignal): AsyncGenerator<DoctorCheck> {
  const checks: readonly (readonly [string, () => Promise<Finding>])[] = [
    ['qemu', () => qemuFinding(deps, signal)],
    ['accelerator', () => acceleratorFinding(deps, signal)],
    [
      'kernel',
      () => fileFinding(deps.kernelPath, 'run "make kernel", or name one with "kernel" in the configuration'),
    ],
    ['initramfs', () => fileFinding(deps.initramfsPath, 'run "make agent"')],
    ['agent channel', () => channelFinding()],
    ['mkfs.ext4', () => toolFinding('mkfs.ext4', 'fail', 'install e2fsprogs')],
    ['bind mounts', () => shareFinding(deps)],
    ['network', () => networkFinding()],
    ...(hasBridges() ? [['firewall', () => firewallFinding(deps)] as const] : []),
    ['cgroups', () => cgroupFinding()],
    ['disk', () => diskFinding(deps.root)],
    ['memory', () => memoryFinding()],
    ...deps.damages().map((damage) => ['state', async () => damageFinding(damage)] as const),
  ];
  for (const [name, find] of checks) {
    signal.throwIfAborted();
    yield { name, ...(await find().catch(failed)) };
  }
  yield* jailFindings(deps, signal);
}

async function* jailFindings(deps: DoctorDeps, signal: AbortSignal): AsyncGenerator<DoctorCheck> {
  try {
    for (const finding of await deps.jail(signal)) yield jailFinding(finding);
  } catch (error) {
    signal.throwIfAborted();
    yield { name: 'jail', ...failed(error) };
  }
}

/** What only root can have is no fault of the host where the daemon is not root. */
function jailFinding({ step, possible, detail, allowed }: JailFinding): DoctorCheck {
  const name = `jail ${step}`;
  if (possible) return { name, status: 'ok', detail };
  if (allowed)
    return {
      name,
      status: 'warn',
      detail,
      remedy: 'microVMs start without it; docs/security.md says what it is for',
    };
  const remedy = `without it no microVM starts, unless the configuration says allowWeakerJail: ["${step}"]`;
  return { name, status: 'fail', detail, remedy };
}

type Finding = Omit<DoctorCheck, 'name'>;

function failed(error: unknown): Finding {
  const remedy = error instanceof HrunError ? error.hint : undefined;
  return { status: 'fail', detail: messageOf(error), ...(remedy && { remedy }) };
}

async function qemuFinding(deps: DoctorDeps, signal: AbortSignal): Promise<Finding> {
  const { path, version } = await deps.qemu(signal);
  const detail = `${path}, version ${version}`;
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const old = major < oldestQemu[0] || (major === oldestQemu[0] && minor < oldestQemu[1]);
  return old ? { status: 'fail', detail, remedy: 'install QEMU 7.2 or later' } : { status: 'ok', detail };
}

async function acceleratorFinding(deps: DoctorDeps, signal: AbortSignal): Promise<Finding> {
  const { accelerator, reason } = await deps.accelerator(signal);
  if (accelerator === 'kvm') return { status: 'ok', detail: 'KVM: a test guest booted' };
  return {
    status: 'warn',
    detail: `TCG (software emulation), the weaker wall: ${reason ?? 'KVM does not work here'}`,
    remedy: 'use a host with KVM: guests run several times faster, and the wall around them is stronger',
  };
}

function damageFinding(damage: Damage): Finding {
  return { status: 'fail', detail: describeDamage(damage), remedy: damage.remedy };
}

async function fileFinding(path: string, remedy: string): Promise<Finding> {
  const size = await stat(path).then(
    (found) => found.size,
    () => undefined,
  );
  if (size === undefined) return { status: 'fail', detail: `${path} is missing`, remedy };
  return { status: 'ok', detail: `${path}, ${(size / 1024 / 1024).toFixed(1)} MiB` };
}

async function channelFinding(): Promise<Finding> {
  const vsock = await isReadWritable('/dev/vhost-vsock');
  return { status: 'ok', detail: vsock ? 'virtio-serial; vhost-vsock is there too' : 'virtio-serial' };
}

async function toolFinding(tool: string, missing: 'warn' | 'fail', remedy: string): Promise<Finding> {
  const path = findTool(tool);
  return path === undefined
    ? { status: missing, detail: `${tool} is not installed`, remedy }
    : { status: 'ok', detail: path };
}

async function shareFinding(deps: DoctorDeps): Promise<Finding> {
  const path = await deps.shareServer();
  if (path !== undefined) return { status: 'ok', detail: path };
  return {
    status: 'warn',
    detail: 'no virtiofsd: containers with --volume cannot run',
    remedy: 'install qemu-system-common (Debian 12) or virtiofsd',
  };
}

async function networkFinding(): Promise<Finding> {
  if (process.geteuid?.() !== 0) return userNetworkFinding();
  const missing: string[] = [];
  if (findTool('nft') === undefined) missing.push('nft');
  if (!(await isReadWritable('/dev/net/tun'))) missing.push('/dev/net/tun');
  if (missing.length === 0) return { status: 'ok', detail: 'nftables and /dev/net/tun are there' };
  return {
    status: 'warn',
    detail: `missing: ${missing.join(', ')}`,
    remedy: 'containers have loopback only; install nftables for networks',
  };
}

function hasBridges(): boolean {
  return process.geteuid?.() === 0 && findTool('nft') !== undefined;
}

async function firewallFinding(deps: DoctorDeps): Promise<Finding> {
  const closed = await deps.closedChains();
  if (closed.length === 0)
    return { status: 'ok', detail: 'no firewall drops what containers send beyond the host' };
  return {
    status: 'warn',
    detail: `containers reach nothing beyond the host: ${closed.map(({ name }) => name).join(', ')} drops what it is not told of`,
    remedy: closed.flatMap(({ commands }) => commands).join('; '),
  };
}

function userNetworkFinding(): Finding {
  const passt = findTool('passt');
  if (passt !== undefined) return { status: 'ok', detail: `the network user, by ${passt}` };
  return {
    status: 'warn',
    detail: 'passt is not installed',
    remedy: 'containers have loopback only; install passt for a network without root',
  };
}

async function cgroupFinding(): Promise<Finding> {
  const mounts = await readFile('/proc/self/mounts', 'utf8');
  const types = new Set(mounts.split('\n').map((line) => line.split(' ')[2]));
  if (types.has('cgroup') && types.has('cgroup2'))
    return { status: 'ok', detail: 'hybrid: v1 controllers, v2 tree' };
  if (types.has('cgroup2')) return { status: 'ok', detail: 'v2' };
  if (types.has('cgroup')) return { status: 'ok', detail: 'v1' };
  return {
    status: 'warn',
    detail: 'no cgroup file system is mounted',
    remedy: 'mount one at /sys/fs/cgroup',
  };
}

async function diskFinding(root: string): Promise<Finding> {
  const { bavail, bsize } = await statfs(root);
  const free = bavail * bsize;
  const detail = `${(free / gibibyte).toFixed(1)} GiB free at ${root}`;
  if (free >= 5 * gibibyte) return { status: 'ok', detail };
  const remedy = 'free some space, or move HRUN_ROOT to a larger file system';
  return { status: free < gibibyte ? 'fail' : 'warn', detail, remedy };
}

async function memoryFinding(): Promise<Finding> {
  const available = /^MemAvailable:\s+(\d+) kB$/m.exec(await readFile('/proc/meminfo', 'utf8'))?.[1];
  const bytes = Number(available ?? 0) * 1024;
  const detail = `${(bytes / gibibyte).toFixed(1)} GiB available`;
  if (bytes >= gibibyte) return { status: 'ok', detail };
  return { status: 'warn', detail, remedy: 'a microVM of default size wants 576 MiB' };
}

async function isReadWritable(path: string): Promise<boolean> {
  return await access(path, constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
}
