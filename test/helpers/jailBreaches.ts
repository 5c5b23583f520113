import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { cgroupMounts, isV2 } from '../../src/sys/cgroups.ts';

/** Namespaces that a jailed process shares with nobody. */
const ownNamespaces = ['mnt', 'pid', 'ipc', 'uts', 'net', 'cgroup'];
/** What an open descriptor may be, besides files that are allowed by name. */
const harmlessFds = /^(?:\/dev\/null|pipe:\[\d+\]|socket:\[\d+\]|anon_inode:.*|\/memfd:[\w-]+ \(deleted\))$/;
const denials = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny';

export interface JailPromise {
  readonly uids: { readonly first: number; readonly count: number };
  /** Files of the host that it may have open. */
  readonly files: RegExp;
  /** The largest file that it may write, bytes. */
  readonly fileBytes: number;
}

/** What proc(5) tells of a process that is not as docs/security.md promises of QEMU, by the name of each wall. */
export async function jailBreaches(pid: number, promise: JailPromise): Promise<string[]> {
  const read = (name: string) => readFile(`/proc/${pid}/${name}`, 'utf8');
  const status = new Map(
    (await read('status')).split('\n').map((line) => line.split(/:\s*/, 2) as [string, string]),
  );
  const numbers = (field: string) =>
    (status.get(field) ?? '').trim().split(/\s+/).filter(Boolean).map(Number);
  const limits = await read('limits');
  const limit = (name: string) => new RegExp(`^${name} +(\\S+) +(\\S+)`, 'm').exec(limits)?.slice(1, 3) ?? [];
  const [uid = 0] = numbers('Uid');
  const environment = (await read('environ')).split('\0').filter(Boolean);
  const walls: Readonly<Record<string, boolean | Promise<boolean>>> = {
    uid: uid >= promise.uids.first && uid < promise.uids.first + promise.uids.count,
    'one user and group': [...numbers('Uid'), ...numbers('Gid')].every((id) => id === uid),
    'no supplementary groups': numbers('Groups').length === 0,
    ...Object.fromEntries(
      ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'].map((set) => [
        set,
        /^0+$/.test(status.get(set) ?? ''),
      ]),
    ),
    'no new privileges': status.get('NoNewPrivs') === '1',
    seccomp: status.get('Seccomp') === '2',
    'all denials': (await read('cmdline')).split('\0').includes(denials),
    'init of its namespace': numbers('NSpid').length === 2 && numbers('NSpid')[1] === 1,
    ...Object.fromEntries(ownNamespaces.map((kind) => [`${kind} namespace`, isOwn(pid, kind)])),
    cgroup: isLimited(await read('cgroup')),
    mounts: hasOnlyItsTree(await read('mountinfo')),
    'files of its root': hasOnly(await readdir(`/proc/${pid}/root`), /^(?:dev|lib|lib64|proc|usr)$/),
    devices: hasOnly(await readdir(`/proc/${pid}/root/dev`), /^(?:null|kvm)$/),
    'processes it sees': hasOnly(
      (await readdir(`/proc/${pid}/root/proc`)).filter((name) => /^\d+$/.test(name)),
      /^1$/,
    ),
    descriptors: hasOnly(
      await descriptorsOf(pid),
      new RegExp(`${harmlessFds.source}|${promise.files.source}`),
    ),
    'no core': limit('Max core file size').join() === '0,0',
    'open files': Number(limit('Max open files')[1]) <= 4096,
    'processes and threads': Number(limit('Max processes')[1]) <= 512,
    'file size': Number(limit('Max file size')[1]) <= promise.fileBytes,
    'out of memory': (await read('oom_score_adj')).trim() === '300',
    'not dumpable': (await stat(`/proc/${pid}/fd`)).uid === 0 && uid !== 0,
    environment: environment.every((line) => line.startsWith('LD_PRELOAD=')),
    'a session of its own': (await read('stat')).split(') ')[1]?.split(' ')[3] === String(pid),
  };
  const held = await Promise.all(
    Object.entries(walls).map(async ([wall, holds]) => [wall, await holds] as const),
  );
  return held.flatMap(([wall, holds]) => (holds ? [] : [wall]));
}

/** What proc(5) tells of a process of a share server that is not as docs/security.md promises. */
export async function shareServerBreaches(pid: number): Promise<string[]> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const set = (name: string) => BigInt(`0x${new RegExp(`^${name}:\\s+([0-9a-f]+)$`, 'm').exec(status)?.[1]}`);
  const mounts = (await readFile(`/proc/${pid}/mountinfo`, 'utf8'))
    .trim()
    .split('\n')
    .map((line) => line.split(' '));
  const environment = (await readFile(`/proc/${pid}/environ`, 'utf8')).split('\0').filter(Boolean);
  const limits = await readFile(`/proc/${pid}/limits`, 'utf8');
  const walls: Readonly<Record<string, boolean | Promise<boolean>>> = {
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, MKNOD, SETFCAP
    capabilities: (set('CapPrm') & ~0x880000dbn) === 0n,
    CapInh: set('CapInh') === 0n,
    CapBnd: set('CapBnd') === 0n,
    CapAmb: set('CapAmb') === 0n,
    'no new privileges': /^NoNewPrivs:\s+1$/m.test(status),
    // its parent only waits for it, without any right
    seccomp: /^Seccomp:\s+2$/m.test(status) || set('CapPrm') === 0n,
    ...Object.fromEntries(ownNamespaces.map((kind) => [`${kind} namespace`, isOwn(pid, kind)])),
    mounts: mounts.every(
      ([, , , , point, options = '']) =>
        /^\/(?:\d+)?$/.test(point ?? '') && options.includes('nosuid') && options.includes('nodev'),
    ),
    'read-only': mounts.every(([, , , , , options = '']) => options.split(',').includes('ro')),
    'no core': /^Max core file size +0 +0 /m.test(limits),
    environment: environment.length === 1 && environment[0]?.startsWith('PATH=') === true,
  };
  const held = await Promise.all(
    Object.entries(walls).map(async ([wall, holds]) => [wall, await holds] as const),
  );
  return held.flatMap(([wall, holds]) => (holds ? [] : [wall]));
}

/** A namespace that this process is not in. */
async function isOwn(pid: number, kind: string): Promise<boolean> {
  const [own, others] = await Promise.all([pid, 'self'].map((who) => readlink(`/proc/${who}/ns/${kind}`)));
  return own !== others;
}

/** One that is called by the VM's id, with its own limits, in each hierarchy that limits memory, CPU time or threads. */
async function isLimited(cgroups: string): Promise<boolean> {
  const mounts = cgroupMounts(await readFile('/proc/self/mountinfo', 'utf8'));
  const wanted = mounts.filter(
    (mount) => isV2(mount) || mount.controllers.some((name) => ['memory', 'cpu', 'pids'].includes(name)),
  );
  const files = isV2(wanted[0] ?? { controllers: ['memory'], directory: '' })
    ? ['memory.max', 'cpu.max', 'pids.max']
    : ['memory.limit_in_bytes', 'cpu.cfs_quota_us', 'pids.max'];
  const limits = wanted.map(async ({ controllers, directory }) => {
    const line = cgroups.split('\n').find((text) => text.split(':')[1] === controllers.join(','));
    const path = line?.split(':')[2] ?? '';
    if (!/\.vms\/[0-9a-f]{8}-[0-9a-f]{32}$/.test(path)) return [];
    const texts = await Promise.all(
      files.map((file) => readFile(join(directory, path, file), 'utf8').catch(() => undefined)),
    );
    return texts.filter((text) => text !== undefined);
  });
  const found = (await Promise.all(limits)).flat().map((text) => Number(text.split(' ')[0]));
  return found.length === files.length && found.every((value) => value > 0 && value < 2 ** 40);
}

/** Read-only and without set-user-id programs, all of it. */
function hasOnlyItsTree(mountinfo: string): boolean {
  const mounts = mountinfo
    .trim()
    .split('\n')
    .map((line) => line.split(' '))
    // where no device can be made, the host's own
    .filter((fields) => !fields[4]?.startsWith('/dev/'));
  const points = mounts.map((fields) => fields[4]).toSorted();
  const options = mounts.map((fields) => fields[5]?.split(',') ?? []);
  return (
    points.join() === '/,/dev,/proc' &&
    options.every((set) => set.includes('ro') && set.includes('nosuid')) &&
    options.filter((set) => set.includes('nodev')).length === 2
  );
}

async function descriptorsOf(pid: number): Promise<string[]> {
  const fds = await readdir(`/proc/${pid}/fd`);
  // one that was closed meanwhile is none
  return await Promise.all(fds.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '/dev/null')));
}

function hasOnly(found: readonly string[], allowed: RegExp): boolean {
  return found.length > 0 && found.every((name) => allowed.test(name));
}
