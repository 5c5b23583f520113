import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { CreateContainerInit, ExecInit, UpdateContainerInit } from '../../../src/agent/types.ts';
import { isHrunError } from '../../../src/base/errors.ts';
import { type GuestContext, guestContainerOf, hostPlanOf } from '../../../src/oci/containerPlan.ts';
import { parseProcessSpec } from '../../../src/oci/processSpec.ts';
import { parseResourcesSpec } from '../../../src/oci/resourcesSpec.ts';
import { parseRuntimeSpec } from '../../../src/oci/runtimeSpec.ts';
import { planMounts } from '../../../src/oci/specMounts.ts';
import { guestProcessOf } from '../../../src/oci/specProcess.ts';
import { guestResourcesOf } from '../../../src/oci/specResources.ts';

const fixtures = join(import.meta.dirname, '../../fixtures/oci-configs');
const context: GuestContext = {
  containerId: 'c1',
  name: 'box',
  bundle: '/bundle',
  root: { tag: 'tree', path: 'root' },
  bindSource: ({ index }) => ({ tag: 'tree', path: `bind${index}` }),
  joinedContainer: (path) => `of-${path.split('/')[2]}`,
  stdinOpen: false,
};
const max = 0xffff_ffff_ffff_ffffn;

type Json = Record<string, unknown>;
const linux = { namespaces: ['pid', 'network', 'mount', 'ipc', 'uts'].map((type) => ({ type })) };
const base = {
  ociVersion: '1.2.0',
  root: { path: 'rootfs' },
  process: { user: { uid: 0, gid: 0 }, args: ['true'], cwd: '/', env: ['A=b'] },
  linux,
};

const bytes = (document: unknown) => Buffer.from(JSON.stringify(document));

function plan(change: Json = {}) {
  const spec = parseRuntimeSpec(bytes({ ...base, ...change }));
  // assignable to the contract's own type, which lies in a room above
  const guest = guestContainerOf(spec, context) satisfies CreateContainerInit;
  return { host: hostPlanOf(spec), guest };
}

function refusal(change: Json): string {
  try {
    plan(change);
  } catch (error) {
    if (isHrunError(error, 'SPEC_INVALID')) return `invalid: ${error.message}`;
    if (isHrunError(error, 'SPEC_UNSUPPORTED')) return `unsupported: ${error.message}`;
    throw error;
  }
  return expect.fail('it was accepted');
}

describe('the plan of a config.json', () => {
  for (const file of readdirSync(fixtures)) {
    it(`is made of what a manager wrote: ${file}`, () => {
      const spec = parseRuntimeSpec(readFileSync(join(fixtures, file)));
      hostPlanOf(spec);
      const guest = guestContainerOf(spec, context);
      expect(guest.process.args).to.deep.equal(spec.process?.args);
      expect(guest.mounts).to.have.length(spec.mounts.length);
      expect(guest.devices.map(({ path }) => path)).to.include.members(['/dev/null', '/dev/tty']);
      const types = guest.namespaces.namespaces.map(({ type }) => type);
      expect(types).to.include.members(['pid', 'mount', 'ipc', 'uts', 'cgroup']).and.not.include('network');
    });
  }

  it('keeps the network for the host and finds whose namespaces are joined', () => {
    const spec = parseRuntimeSpec(readFileSync(join(fixtures, 'cri-container.json')));
    expect(hostPlanOf(spec).network).to.deep.equal({ kind: 'path', path: '/proc/N/ns/net' });
    expect(hostPlanOf(spec).joined.map(({ type }) => type)).to.deep.equal(['pid', 'ipc', 'uts']);
    expect(guestContainerOf(spec, context).namespaces.namespaces).to.deep.include({
      type: 'pid',
      containerId: 'of-N',
    });
    expect(
      plan({ linux: { namespaces: linux.namespaces.filter(({ type }) => type !== 'network') } }).host.network,
    ).to.deep.equal({ kind: 'host' });
  });

  it("tells binds of the host from the guest's own file systems", () => {
    const mounts = [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: 'data', source: '/srv', options: ['rbind', 'ro', 'rprivate'] },
      { destination: '/sys', type: 'bind', source: '/sys/', options: ['rbind', 'ro'] },
      { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro'] },
      { destination: '/file', type: 'none', source: 'file', options: ['bind', 'ro', 'rw'] },
    ];
    const { guest } = plan({ mounts });
    const planned = planMounts(parseRuntimeSpec(bytes({ ...base, mounts })));
    expect(planned.flatMap((mount) => (mount.kind === 'bind' ? mount.bind : []))).to.deep.equal([
      { index: 1, source: '/srv', destination: '/data', readonly: true, recursive: true },
      { index: 4, source: 'file', destination: '/file', readonly: false, recursive: false },
    ]);
    expect(
      guest.mounts.map(({ destination, options, source }) => [destination, options, source.value]),
    ).to.deep.equal([
      ['/proc', [], { type: 'proc', source: 'proc' }],
      ['/data', ['rbind', 'ro', 'rprivate'], { tag: 'tree', path: 'bind1' }],
      ['/sys', ['ro'], { type: 'sysfs', source: 'sysfs' }],
      ['/sys/fs/cgroup', ['ro'], { type: 'cgroup2', source: 'cgroup' }],
      ['/file', ['ro', 'rw'], { tag: 'tree', path: 'bind4' }],
    ]);
  });

  it("leaves out the default devices where the host's /dev is bound", () => {
    expect(
      plan({ mounts: [{ destination: '/dev/', type: 'bind', source: '/dev' }] }).guest.devices,
    ).to.deep.equal([]);
  });

  it('makes the devices that the guest has and refuses those of the host by name', () => {
    const fuse = { path: '/dev/fuse', type: 'c', major: 10, minor: 229, fileMode: 0o600, uid: 5 };
    const disk = { path: '/dev/sda', type: 'b', major: 8, minor: 0 };
    expect(plan({ linux: { ...linux, devices: [fuse] } }).guest.devices).to.deep.include({
      path: '/dev/fuse',
      type: 'c',
      major: 10,
      minor: 229,
      mode: 0o600,
      uid: 5,
      gid: 0,
    });
    const granted = { devices: [{ allow: true, type: 'b', major: 8, minor: 0, access: 'r' }] };
    expect(refusal({ linux: { ...linux, devices: [fuse, disk], resources: granted } })).to.match(
      /unsupported: .*linux\.devices\.1: \/dev\/sda/,
    );
    const none = { devices: [{ allow: false, access: 'rwm' }] };
    const unusable = plan({ linux: { ...linux, devices: [disk], resources: none } });
    expect(unusable.guest.devices.at(-1)).to.include({ path: '/dev/sda', type: 'b', major: 8 });
    const all = { devices: [{ allow: true, access: 'rwm' }] };
    const privileged = plan({ linux: { ...linux, devices: [fuse, disk], resources: all } });
    expect(privileged.guest.devices.map(({ path }) => path))
      .to.include('/dev/fuse')
      .and.not.include('/dev/sda');
  });

  it('converts limits of cgroup v1 as runc does', () => {
    const limits = (resources: Json) => plan({ linux: { ...linux, resources } }).guest.resources;
    expect(limits({ memory: { limit: 1000, swap: 1500, reservation: 10 } })).to.deep.equal({
      memoryMaxBytes: 1000n,
      memorySwapMaxBytes: 500n,
      memoryLowBytes: 10n,
    });
    expect(limits({ memory: { limit: -1 } })).to.deep.equal({ memoryMaxBytes: max, memorySwapMaxBytes: max });
    expect(
      limits({ memory: { disableOOMKiller: false }, cpu: { shares: 0 }, blockIO: { weight: 0 } }),
    ).to.deep.equal({});
    expect(limits({ cpu: { shares: 1024, quota: 50_000, period: 100_000, idle: 1 } })).to.deep.equal({
      cpuWeight: 39n,
      cpuQuotaUs: 50_000n,
      cpuPeriodUs: 100_000n,
      cpuIdle: true,
    });
    expect(limits({ cpu: { shares: 2 } }).cpuWeight).to.equal(1n);
    expect(limits({ cpu: { shares: 999_999 } }).cpuWeight).to.equal(10_000n);
    expect(limits({ pids: { limit: -1 }, blockIO: { weight: 1000 } })).to.deep.equal({
      pidsMax: max,
      ioWeight: 10_000,
    });
    expect(limits({ pids: { limit: 0 } })).to.deep.equal({});
    expect(
      limits({ devices: [{ allow: true, type: 'c', major: 5, minor: -1, access: 'rw' }] }).deviceRules,
    ).to.deep.equal({
      rules: [{ allow: true, type: 'c', major: 5, access: 'rw' }],
    });
  });

  it('keeps all 64 bits of what a document says', () => {
    const text = JSON.stringify({
      ...base,
      linux: {
        ...linux,
        seccomp: {
          defaultAction: 'SCMP_ACT_ALLOW',
          syscalls: [
            {
              names: ['clone'],
              action: 'SCMP_ACT_ERRNO',
              args: [{ index: 0, value: 'BIG', op: 'SCMP_CMP_EQ' }],
            },
          ],
        },
      },
    }).replace('"BIG"', '18446744073709551615');
    const { seccomp } = guestContainerOf(parseRuntimeSpec(Buffer.from(text)), context);
    expect(seccomp?.syscalls[0]?.args[0]).to.include({ value: max, valueTwo: 0n });
  });

  it('gives an exec the affinity of config.json unless it has its own', () => {
    const process = parseProcessSpec(
      bytes({ ...base.process, terminal: true, consoleSize: { height: 3, width: 4 } }),
    );
    const defaultAffinity = { initial: '0', final: '1' };
    const made = guestProcessOf(process, { stdinOpen: true, exec: { defaultAffinity } });
    ({ containerId: 'c1', processId: 'p', process: made }) satisfies ExecInit;
    expect(made.execCpuAffinity).to.deep.equal(defaultAffinity);
    expect(made.terminalSize).to.deep.equal({ rows: 3, columns: 4 });
  });

  it('takes an update of the limits alone', () => {
    const resources = guestResourcesOf(parseResourcesSpec(bytes({ memory: { limit: 5 }, cpu: null })));
    ({ containerId: 'c1', resources }) satisfies UpdateContainerInit;
    expect(resources).to.deep.equal({ memoryMaxBytes: 5n });
  });

  it('hands the hooks of the guest over with the state they read', () => {
    const hooks = {
      startContainer: [{ path: '/hook', args: ['hook', '-x'], timeout: 3 }],
      poststop: [{ path: '/after' }],
    };
    const { guest } = plan({ hooks, annotations: { a: 'b' } });
    expect(guest.startContainerHooks).to.deep.equal([
      { path: '/hook', args: ['hook', '-x'], env: [], timeoutS: 3 },
    ]);
    expect(JSON.parse(guest.hookState)).to.deep.equal({
      ociVersion: '1.2.0',
      id: 'box',
      status: 'created',
      bundle: '/bundle',
      annotations: { a: 'b' },
    });
  });

  const namespace = (type: string) => ({ namespaces: [...linux.namespaces, { type }] });
  const refused: readonly (readonly [name: string, change: Json, message: RegExp])[] = [
    ['no root', { root: undefined }, /invalid: .*root\.path: Root must be specified/],
    ['no process', { process: undefined }, /process property must not be empty/],
    ['no arguments', { process: { ...base.process, args: [] } }, /process\.args: args must not be empty/],
    ['an empty cwd', { process: { ...base.process, cwd: '' } }, /Cwd property must not be empty/],
    ['a relative cwd', { process: { ...base.process, cwd: 'tmp' } }, /Cwd must be an absolute path/],
    ['a wrong type deep inside', { mounts: [{ destination: 5 }] }, /invalid: mounts\.0\.destination: /],
    ['a negative uid', { process: { ...base.process, user: { uid: -1 } } }, /process\.user\.uid: /],
    ['a NUL', { process: { ...base.process, args: ['a\0b'] } }, /process\.args\.0: contains a NUL/],
    [
      'a hostname without its namespace',
      { hostname: 'a', linux: { namespaces: linux.namespaces.slice(0, 4) } },
      /hostname: unable to set hostname/,
    ],
    [
      'a namespace twice',
      { linux: namespace('pid') },
      /namespaces\.5\.type: malformed spec file: duplicated ns "pid"/,
    ],
    ['an unknown namespace', { linux: namespace('x') }, /namespace "x" does not exist/],
    [
      "the host's processes",
      { linux: { namespaces: linux.namespaces.slice(1) } },
      /unsupported: .*linux\.namespaces: without a pid namespace/,
    ],
    ['a user namespace without maps', { linux: namespace('user') }, /no uid or gid mappings found/],
    [
      'maps without a user namespace',
      { linux: { ...linux, uidMappings: [{ containerID: 0, hostID: 0, size: 1 }] } },
      /user namespace isn't enabled/,
    ],
    [
      'offsets without a time namespace',
      { linux: { ...linux, timeOffsets: { boottime: { secs: 1 } } } },
      /no time namespace/,
    ],
    [
      'a disk',
      { mounts: [{ destination: '/x', type: 'ext4', source: '/dev/sda1' }] },
      /unsupported: .*mounts\.0\.type: a file system "ext4"/,
    ],
    [
      'an id-mapped mount without ranges',
      { mounts: [{ destination: '/x', type: 'bind', source: '/y', options: ['idmap'] }] },
      /mounts\.0\.uidMappings: .* needs uidMappings and gidMappings/,
    ],
    [
      'an id-mapped mount of the kernel',
      {
        mounts: [
          {
            destination: '/x',
            type: 'tmpfs',
            uidMappings: [{ containerID: 0, hostID: 5, size: 1 }],
            gidMappings: [{ containerID: 0, hostID: 5, size: 1 }],
          },
        ],
      },
      /unsupported: .*mounts\.0: only a bind/,
    ],
    [
      'a seccomp listener',
      { linux: { ...linux, seccomp: { defaultAction: 'SCMP_ACT_ALLOW', listenerPath: '/x' } } },
      /unsupported: .*linux\.seccomp\.listenerPath/,
    ],
    ['resctrl', { linux: { ...linux, intelRdt: { closID: 'a' } } }, /unsupported: .*linux\.intelRdt/],
    ['a memory policy', { linux: { ...linux, memoryPolicy: { mode: 'MPOL_BIND' } } }, /linux\.memoryPolicy/],
    ['a device of the network', { linux: { ...linux, netDevices: { eth0: {} } } }, /linux\.netDevices/],
    [
      'kernel memory',
      { linux: { ...linux, resources: { memory: { kernel: 5 } } } },
      /linux\.resources\.memory\.kernel/,
    ],
    [
      'an OOM killer switched off',
      { linux: { ...linux, resources: { memory: { disableOOMKiller: true } } } },
      /disableOOMKiller/,
    ],
    [
      'swap below memory',
      { linux: { ...linux, resources: { memory: { limit: 5, swap: 4 } } } },
      /memory\+swap limit should be >= memory limit/,
    ],
    [
      'a path as a file of the cgroup',
      { linux: { ...linux, resources: { unified: { '../x': '1' } } } },
      /must be a file name \(no slashes\)/,
    ],
    [
      'an unknown propagation',
      { linux: { ...linux, rootfsPropagation: 'x' } },
      /rootfsPropagation=x is not supported/,
    ],
    [
      'an unknown personality',
      { linux: { ...linux, personality: { domain: 'SOLARIS' } } },
      /invalid personality domain SOLARIS/,
    ],
    [
      'a hook that is not absolute',
      { hooks: { startContainer: [{ path: 'x' }] } },
      /hooks\.startContainer\.0\.path/,
    ],
    [
      'a time-out of nothing',
      { hooks: { poststop: [{ path: '/x', timeout: 0 }] } },
      /hooks\.poststop\.0\.timeout: must be greater than zero/,
    ],
    ['another hypervisor', { vm: { hypervisor: { path: '/bin/sh' } } }, /unsupported: .*vm\.hypervisor/],
    ['another platform', { windows: {} }, /unsupported: .*windows/],
    [
      'an unknown limit',
      { process: { ...base.process, rlimits: [{ type: 'RLIMIT_X', soft: 1, hard: 1 }] } },
      /wrong rlimit value: RLIMIT_X/,
    ],
    [
      'a priority without its policy',
      { process: { ...base.process, scheduler: { policy: 'SCHED_OTHER', priority: 5 } } },
      /can only be specified for SCHED_FIFO/,
    ],
    ['no version', { ociVersion: 'latest' }, /ociVersion: "latest" is no version/],
  ];
  for (const [name, change, message] of refused) {
    it(`is refused for ${name}`, () => expect(refusal(change)).to.match(message));
  }
});

describe('parseRuntimeSpec', () => {
  const failure = (text: string) => {
    try {
      parseRuntimeSpec(Buffer.from(text));
    } catch (error) {
      if (isHrunError(error, 'SPEC_INVALID')) return error.message;
      throw error;
    }
    return expect.fail('it was accepted');
  };

  it('ignores fields it does not know and takes null for absent', () => {
    const spec = parseRuntimeSpec(
      bytes({ ...base, extra: [1, { x: 2 }], mounts: null, hooks: null, annotations: null }),
    );
    expect(spec).to.not.have.property('extra');
    expect(spec.mounts).to.deep.equal([]);
  });

  it('refuses what is too long, too deep, not JSON, or not text', () => {
    expect(failure(`{"ociVersion":"${'x'.repeat(10 * 1024 * 1024)}"}`)).to.match(
      /longer than 10485760 bytes/,
    );
    expect(failure(`${'['.repeat(100_000)}${']'.repeat(100_000)}`)).to.match(/nested deeper than 256 levels/);
    expect(failure(`{"a":${'{"a":'.repeat(300)}1${'}'.repeat(300)}}`)).to.match(/nested deeper/);
    expect(failure('{')).to.match(/config\.json is no valid JSON/);
    expect(failure('[]')).to.match(/is invalid/);
    expect(failure('null')).to.match(/is invalid/);
    expect(() => parseRuntimeSpec(Buffer.from([0x22, 0xff, 0x22]))).to.throw(/no valid JSON/);
  });

  it('does not count brackets inside of strings', () => {
    const spec = parseRuntimeSpec(bytes({ ...base, annotations: { a: '[{'.repeat(500), b: '\\"[[[' } }));
    expect(spec.annotations.a).to.have.length(1000);
  });
});
