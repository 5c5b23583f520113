import type { FlagSpec } from './goFlags.ts';

/** What may stand before a verb of runc; the other face has no option there but --help and --version. */
export const globalFlags: readonly FlagSpec[] = [
  { name: 'debug', kind: 'bool', description: 'enable debug logging' },
  {
    name: 'log',
    kind: 'string',
    description: "set the log file to write hrun's errors to (default is stderr)",
  },
  { name: 'log-format', kind: 'string', description: "set the log format ('text' (default), or 'json')" },
  { name: 'root', kind: 'string', description: 'root directory for storage of container state' },
  { name: 'criu', kind: 'string', description: 'ignored' },
  { name: 'systemd-cgroup', kind: 'bool', description: 'cgroupsPath has the form "slice:prefix:name"' },
  {
    name: 'rootless',
    kind: 'string',
    description: "ignore cgroup permission errors ('true', 'false', or 'auto')",
  },
  {
    name: 'host-network-runtime',
    kind: 'string',
    description: "OCI runtime for containers that want the host's network (default: they are refused)",
  },
  { name: 'help', aliases: ['h'], kind: 'bool', description: 'show help' },
  { name: 'version', aliases: ['v'], kind: 'bool', description: 'print the version' },
];
