import { allCapabilities } from './capabilities.ts';
import { ociVersionMax, ociVersionMin } from './runtimeSpec.ts';

const mountOptions = [
  ...[
    'acl',
    'async',
    'atime',
    'bind',
    'defaults',
    'dev',
    'diratime',
    'dirsync',
    'exec',
    'idmap',
    'iversion',
    'lazytime',
  ],
  ...[
    'loud',
    'mand',
    'noacl',
    'noatime',
    'nodev',
    'nodiratime',
    'noexec',
    'noiversion',
    'nolazytime',
    'nomand',
  ],
  ...[
    'norelatime',
    'nostrictatime',
    'nosuid',
    'nosymfollow',
    'private',
    'ratime',
    'rbind',
    'rdev',
    'rdiratime',
    'ridmap',
  ],
  ...['relatime', 'rexec', 'rnoatime', 'rnodev', 'rnodiratime', 'rnoexec', 'rnorelatime'],
  ...[
    'rnostrictatime',
    'rnosuid',
    'rnosymfollow',
    'ro',
    'rprivate',
    'rrelatime',
    'rro',
    'rrw',
    'rshared',
    'rslave',
  ],
  ...['rstrictatime', 'rsuid', 'rsymfollow', 'runbindable', 'rw', 'shared', 'silent', 'slave', 'strictatime'],
  ...['suid', 'symfollow', 'sync', 'tmpcopyup', 'unbindable'],
] as const;

/**
 * What `features` prints (runtime-spec features.md). Fixed when hrun is built: nothing of this host is looked at.
 * @param unsafeAnnotations annotations with which a tenant could change the host
 */
export function featuresJson(unsafeAnnotations: readonly string[]): string {
  const features = {
    ociVersionMin,
    ociVersionMax,
    hooks: ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'],
    mountOptions,
    linux: {
      namespaces: ['cgroup', 'ipc', 'mount', 'network', 'pid', 'time', 'user', 'uts'],
      capabilities: allCapabilities,
      cgroup: { v1: true, v2: true, systemd: true, systemdUser: false, rdma: false },
      seccomp: {
        enabled: true,
        actions: seccompActions,
        operators: seccompOperators,
        archs: seccompArchitectures,
        knownFlags: seccompFlags,
        supportedFlags: seccompFlags,
      },
      apparmor: { enabled: false },
      selinux: { enabled: false },
      intelRdt: { enabled: false },
      memoryPolicy: { modes: [], flags: [] },
      mountExtensions: { idmap: { enabled: true } },
      netDevices: { enabled: false },
    },
    potentiallyUnsafeConfigAnnotations: unsafeAnnotations,
  };
  return JSON.stringify(features, undefined, 4);
}

const seccompActions = [
  ...['SCMP_ACT_ALLOW', 'SCMP_ACT_ERRNO', 'SCMP_ACT_KILL', 'SCMP_ACT_KILL_PROCESS', 'SCMP_ACT_KILL_THREAD'],
  ...['SCMP_ACT_LOG', 'SCMP_ACT_TRACE', 'SCMP_ACT_TRAP'],
];
const seccompOperators = [
  ...['SCMP_CMP_EQ', 'SCMP_CMP_GE', 'SCMP_CMP_GT', 'SCMP_CMP_LE', 'SCMP_CMP_LT', 'SCMP_CMP_MASKED_EQ'],
  'SCMP_CMP_NE',
];
const seccompArchitectures = ['SCMP_ARCH_X32', 'SCMP_ARCH_X86', 'SCMP_ARCH_X86_64'];
const seccompFlags = [
  'SECCOMP_FILTER_FLAG_LOG',
  'SECCOMP_FILTER_FLAG_SPEC_ALLOW',
  'SECCOMP_FILTER_FLAG_TSYNC',
];
