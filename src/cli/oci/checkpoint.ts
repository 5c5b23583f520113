import { HrunError } from '../../base/errors.ts';
import type { FlagSpec } from './goFlags.ts';
import type { OciVerb } from './ociVerb.ts';

const strings = (names: readonly string[]): FlagSpec[] =>
  names.map((name) => ({ name, kind: 'string', description: 'not supported' }));
const bools = (names: readonly string[]): FlagSpec[] =>
  names.map((name) => ({ name, kind: 'bool', description: 'not supported' }));

const common = [
  ...strings([
    'image-path',
    'work-path',
    'manage-cgroups-mode',
    'empty-ns',
    'lsm-profile',
    'lsm-mount-context',
  ]),
  ...bools(['tcp-established', 'ext-unix-sk', 'shell-job', 'file-locks', 'auto-dedup', 'tcp-skip-in-flight']),
];

/** Callers ask `--help` to learn whether this can be done. */
export const checkpoint: OciVerb = {
  name: 'checkpoint',
  summary: 'checkpoint a running container (not supported)',
  usage: '[command options] <container-id>',
  args: [1, 1],
  flags: [
    ...common,
    ...strings(['parent-path', 'page-server', 'status-fd']),
    ...bools(['leave-running', 'lazy-pages', 'pre-dump']),
  ],
  run: () => refuse('checkpoint'),
};

export const restore: OciVerb = {
  name: 'restore',
  summary: 'restore a container from a previous checkpoint (not supported)',
  usage: '[command options] <container-id>',
  args: [1, 1],
  flags: [
    ...common,
    ...strings(['bundle', 'console-socket', 'pid-file']),
    ...bools(['detach', 'no-subreaper', 'no-pivot', 'lazy-pages']),
    { name: 'b', kind: 'string', description: 'not supported' },
    { name: 'd', kind: 'bool', description: 'not supported' },
  ],
  run: () => refuse('restore'),
};

async function refuse(verb: string): Promise<never> {
  throw new HrunError(
    'SPEC_UNSUPPORTED',
    `${verb} is not supported: a microVM cannot be checkpointed with CRIU`,
  );
}
