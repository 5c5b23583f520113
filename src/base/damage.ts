import { HrunError, messageOf } from './errors.ts';

/** Something of hrun's own that cannot be read. It is left as it is, and others are served, until somebody decides. */
export interface Damage {
  readonly kind: 'container' | 'volume' | 'network' | 'image index';
  /** What a user names it by: an id, the name of a volume; of the index nothing. */
  readonly name: string;
  readonly path: string;
  /** In a few words. */
  readonly reason: string;
  /** What can be done about it: one sentence. */
  readonly remedy: string;
}

const maxReasonLength = 200;
const shownIdLength = 12;

/** How each kind is removed. */
const removals = {
  container: (id: string) => `hrun rm --force ${id.slice(0, shownIdLength)}`,
  volume: (name: string) => `hrun volume rm --force ${name}`,
  network: (id: string) => `hrun network rm ${id.slice(0, shownIdLength)}`,
} as const;

/** @param cause why `path` could not be read */
export function damageOf(
  kind: Exclude<Damage['kind'], 'image index'>,
  name: string,
  path: string,
  cause: unknown,
): Damage {
  const remedy = `restore it and start the daemon again, or remove the ${kind} with: ${removals[kind](name)}`;
  return { kind, name, path, reason: reasonOf(cause), remedy };
}

export function reasonOf(cause: unknown): string {
  return messageOf(cause).replaceAll(/\s+/g, ' ').slice(0, maxReasonLength);
}

/** One line, which names the object and its file. */
export function describeDamage({ kind, name, path, reason }: Damage): string {
  const object = kind === 'image index' ? `the ${kind}` : `${kind} ${name.slice(0, shownName(kind))}`;
  return `${object} is damaged: ${path} cannot be read: ${reason}`;
}

/** What is said to whoever asks for the damaged object. */
export function damageError(damage: Damage): HrunError {
  return new HrunError('STATE_DAMAGED', describeDamage(damage), { hint: damage.remedy });
}

/** For who names an object that is not known: it may be one of those whose name cannot be read. */
export function hintOf(damages: readonly Damage[]): { readonly hint?: string } {
  const [first] = damages;
  if (first === undefined) return {};
  const count = damages.length === 1 ? `a ${first.kind}` : `${damages.length} ${first.kind}s`;
  return { hint: `${count} cannot be read, and may be the one that is meant: hrun doctor shows more` };
}

function shownName(kind: Damage['kind']): number {
  return kind === 'volume' ? Number.POSITIVE_INFINITY : shownIdLength;
}
