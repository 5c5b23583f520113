import { HrunError, isHrunError } from '../../base/errors.ts';
import type { Engine } from '../../runtime/engine.ts';
import { globalFlags } from './globalFlags.ts';
import { type FlagSpec, findFlag } from './goFlags.ts';
import { defaultScope } from './scope.ts';

/** Verbs that only runc has. */
const ociVerbNames = [
  ...['checkpoint', 'delete', 'features', 'list', 'pause', 'restore', 'resume', 'spec', 'state'],
  'update',
];
/** Verbs that both faces have. */
const sharedVerbNames = ['create', 'events', 'exec', 'kill', 'ps', 'run', 'start'];

export type Face =
  | { readonly kind: 'oci'; readonly argv: readonly string[] }
  | { readonly kind: 'host' }
  /** Both faces have this verb, with these words: who knows the container decides. `orElse`: when nobody does. */
  | { readonly kind: 'container'; readonly container: string; readonly orElse: 'oci' | 'host' };

/** The options of a shared verb of runc; asked for only where they matter. */
export type FlagsOf = (verb: string) => Promise<readonly FlagSpec[]>;

/**
 * Which face a command line speaks to (docs/oci.md, "Which face"). Nothing is guessed from what lies on the disk: a bundle
 * is named by an option, or by `hrun oci`.
 */
export async function faceOf(argv: readonly string[], flagsOf: FlagsOf): Promise<Face> {
  const [first = '', ...rest] = argv;
  if (first === 'oci') return { kind: 'oci', argv: rest };
  if (first === '--version' || first === '-v') return { kind: 'oci', argv: ['--version'] };
  const option = /^--?([^-=][^=]*)/.exec(first)?.[1];
  if (
    option !== undefined &&
    option !== 'help' &&
    option !== 'h' &&
    findFlag(globalFlags, option) !== undefined
  ) {
    return { kind: 'oci', argv };
  }
  if (ociVerbNames.includes(first)) return { kind: 'oci', argv };
  if (!sharedVerbNames.includes(first)) return { kind: 'host' };
  const { isOci, isForeign, positional } = readOptions(await flagsOf(first), rest);
  if (isOci) return { kind: 'oci', argv };
  if (isForeign || first === 'create' || first === 'run') return { kind: 'host' };
  const [container, second] = positional;
  if (container === undefined) return { kind: 'host' };
  // Docker's take no container.
  if (first === 'ps' || first === 'events') return { kind: 'oci', argv };
  const namesSignal =
    first === 'kill' && positional.length === 2 && /^(\d+|(SIG)?[A-Z]+[0-9+-]*)$/.test(second ?? '');
  const orElse = namesSignal || /^[0-9a-f]{64}$/.test(container) ? 'oci' : 'host';
  return { kind: 'container', container, orElse };
}

/**
 * Settles the last case by who knows the container.
 * @throws HrunError INVALID_ARGUMENT when both do
 */
export async function faceOfContainer(
  { container, orElse }: Face & { readonly kind: 'container' },
  engine: Engine,
  signal: AbortSignal,
): Promise<'oci' | 'host'> {
  const oci = engine.oci.has({ scope: defaultScope, id: container });
  if (!oci && orElse === 'host') return 'host';
  const host = await engine.containers.inspect(container, signal).then(
    () => true,
    (error: unknown) => {
      if (isHrunError(error, 'NOT_FOUND')) return false;
      throw error;
    },
  );
  if (oci && host) {
    throw new HrunError('INVALID_ARGUMENT', `"${container}" is a container of both faces`, {
      hint: 'say "hrun oci …" for the one of a bundle, "hrun container …" for the other',
    });
  }
  if (oci) return 'oci';
  return host ? 'host' : orElse;
}

function readOptions(
  specs: readonly FlagSpec[],
  argv: readonly string[],
): { readonly isOci: boolean; readonly isForeign: boolean; readonly positional: readonly string[] } {
  let at = 0;
  for (; at < argv.length; at += 1) {
    const match = /^--?([^-=][^=]*)(=.*)?$/s.exec(argv[at] ?? '');
    if (match === null) break;
    const spec = findFlag(specs, match[1] ?? '');
    if (spec === undefined) return { isOci: false, isForeign: true, positional: [] };
    if (spec.ociOnly === true) return { isOci: true, isForeign: false, positional: [] };
    if (spec.kind !== 'bool' && match[2] === undefined) at += 1;
  }
  if (argv[at] === '--') at += 1;
  return { isOci: false, isForeign: false, positional: argv.slice(at) };
}
