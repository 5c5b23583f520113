import { HrunError } from '../base/errors.ts';
import { type Digest, parseDigest } from '../base/ids.ts';
import { printable } from '../base/text.ts';

/** What a user calls an image, spelled out. At least one of tag and digest is there; the digest wins. */
export interface Reference {
  /** Host with optional port: `docker.io`, `localhost:5000`, `[::1]:5000`. */
  readonly domain: string;
  /** `library/busybox` */
  readonly path: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

const defaultDomain = 'docker.io';
const maxNameLength = 255;
const domainComponent = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
const domainPattern = new RegExp(
  `^(?:${domainComponent}(?:\\.${domainComponent})*|\\[[0-9a-fA-F:]+\\])(?::[0-9]{1,5})?$`,
);
const pathPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const tagPattern = /^\w[\w.-]{0,127}$/;

/**
 * Reads a reference with Docker's rules: `busybox` is `docker.io/library/busybox:latest`.
 * @throws HrunError INVALID_ARGUMENT
 */
export function parseReference(text: string): Reference {
  if (text.length > 512) throw malformed(text, 'it is too long');
  const { rest, digest } = cutDigest(text);
  const { name, tag } = cutTag(rest, text);
  const { domain, path } = splitDomain(name);
  if (/^[0-9a-f]{64}$/.test(name)) throw malformed(text, 'a name of 64 hex digits would be taken for an id');
  if (!domainPattern.test(domain)) throw malformed(text, `"${domain}" is not a host`);
  if (name === '') throw malformed(text, 'the name is empty');
  if (!pathPattern.test(path)) throw malformedPath(text, path);
  if (domain.length + 1 + path.length > maxNameLength) throw malformed(text, 'the name is too long');
  return { domain, path, tag: tag ?? (digest === undefined ? 'latest' : undefined), digest };
}

/** `docker.io/library/busybox:latest`: one spelling per image name, as the store keeps it. */
export function canonicalName(reference: Reference): string {
  return withSuffix(`${reference.domain}/${reference.path}`, reference);
}

/** `busybox:latest`: the shortest spelling that means the same, as tables show it. */
export function familiarName(reference: Reference): string {
  return withSuffix(familiarRepository(reference), reference);
}

/** The familiar name without tag and digest. */
export function familiarRepository({ domain, path }: Reference): string {
  if (domain !== defaultDomain) return `${domain}/${path}`;
  const short = path.startsWith('library/') ? path.slice('library/'.length) : path;
  // `library/localhost/x` must not become `localhost/x`.
  return parses(short, domain, path) ? short : `${domain}/${path}`;
}

function parses(short: string, domain: string, path: string): boolean {
  const split = splitDomain(short);
  return split.domain === domain && split.path === path;
}

function withSuffix(repository: string, { tag, digest }: Reference): string {
  return `${repository}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
}

function cutDigest(text: string): { rest: string; digest: Digest | undefined } {
  const at = text.indexOf('@');
  if (at === -1) return { rest: text, digest: undefined };
  const digest = text.slice(at + 1);
  if (!/^sha256:[0-9a-f]{64}$/.test(digest)) {
    throw malformed(text, 'what follows @ is not a sha256 digest', 'a digest is sha256: and 64 hex digits');
  }
  return { rest: text.slice(0, at), digest: parseDigest(digest) };
}

function cutTag(text: string, whole: string): { name: string; tag: string | undefined } {
  const colon = text.lastIndexOf(':');
  if (colon === -1 || colon < text.lastIndexOf('/')) return { name: text, tag: undefined };
  const tag = text.slice(colon + 1);
  if (!tagPattern.test(tag)) {
    throw malformed(
      whole,
      `"${tag}" is not a tag`,
      'a tag has up to 128 letters, digits, "_", "." and "-", and starts with neither "." nor "-"',
    );
  }
  return { name: text.slice(0, colon), tag };
}

/** The first component is a host only if it looks like one: with a dot, a port, an upper-case letter, or `localhost`. */
function splitDomain(name: string): { domain: string; path: string } {
  const slash = name.indexOf('/');
  const first = name.slice(0, Math.max(slash, 0));
  const isHost =
    slash !== -1 && (/[.:]/.test(first) || first === 'localhost' || first.toLowerCase() !== first);
  const given = isHost ? first : defaultDomain;
  const domain = given === 'index.docker.io' ? defaultDomain : given;
  const path = isHost ? name.slice(slash + 1) : name;
  return { domain, path: domain === defaultDomain && !path.includes('/') ? `library/${path}` : path };
}

function malformedPath(text: string, path: string): HrunError {
  const given = text.includes(path) ? path : path.slice('library/'.length);
  if (!pathPattern.test(path.toLowerCase())) return malformed(text, `"${given}" is not a name`);
  const suggestion = text.replace(given, given.toLowerCase());
  return malformed(text, 'the name must be lower case', `did you mean ${suggestion}?`);
}

function malformed(text: string, why: string, hint?: string): HrunError {
  return new HrunError('INVALID_ARGUMENT', `"${printable(text)}" is not an image reference: ${why}`, {
    hint: hint ?? 'a reference looks like busybox, debian:12 or registry.example:5000/team/app@sha256:…',
  });
}
