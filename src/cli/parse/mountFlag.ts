import { posix } from 'node:path';
import { HrunError } from '../../base/errors.ts';
import { parseSize } from '../../base/units.ts';
import type { DiskWish, ImageMount, TmpfsMount } from '../../runtime/runRequest.ts';
import { parseVolumeName, type VolumeDriver, volumeDrivers } from '../../runtime/volumes/volumeDefinition.ts';
import { csvFields } from './csvFields.ts';
import { parseLabel } from './environment.ts';
import { checkPropagation, destinationOf } from './mounts.ts';
import type { Volume } from './volumeFlag.ts';

export type ParsedMount =
  | Volume
  | { readonly type: 'tmpfs'; readonly tmpfs: TmpfsMount }
  | { readonly type: 'disk'; readonly disk: DiskWish }
  | { readonly type: 'image'; readonly image: ImageMount };

const types = ['bind', 'volume', 'tmpfs', 'image', 'disk'] as const;
type MountType = (typeof types)[number];
const fileSystems = ['ext4', 'xfs', 'erofs'] as const;

const aliases: ReadonlyMap<string, string> = new Map([
  ['src', 'source'],
  ['dst', 'target'],
  ['destination', 'target'],
  ['ro', 'readonly'],
]);
/** Keys that are complete without a value. */
const flags: readonly string[] = ['readonly', 'volume-nocopy', 'nosuid', 'noexec', 'nodev'];
const restrictions = ['nosuid', 'noexec', 'nodev'] as const;
/** By what a key is for; what is for nothing in particular may stand with every type. */
const keysOf: Readonly<Record<MountType | 'any', readonly string[]>> = {
  any: ['type', 'source', 'target', 'readonly', 'consistency', ...restrictions],
  bind: ['bind-propagation', 'bind-recursive'],
  volume: ['volume-nocopy', 'volume-driver', 'volume-label'],
  tmpfs: ['tmpfs-size', 'tmpfs-mode'],
  image: [],
  disk: ['fs'],
};

interface Fields {
  readonly text: string;
  get(key: string): string | undefined;
  all(key: string): readonly string[];
  has(key: string): boolean;
}

/**
 * `--mount type=bind,src=/a,dst=/b,readonly`, as Docker has it, with the types `image` and `disk` besides.
 * @throws HrunError INVALID_ARGUMENT
 */
export function parseMount(text: string, cwd: string): ParsedMount {
  const fields = readFields(text);
  const type = types.find((known) => known === (fields.get('type') ?? 'volume').toLowerCase());
  if (type === undefined) {
    throw invalid(text, `the type "${fields.get('type')}" is unknown`, `the types are ${types.join(', ')}`);
  }
  for (const other of types) {
    if (other !== type && keysOf[other].some((key) => fields.has(key))) {
      throw invalid(
        text,
        `cannot mix '${other === 'disk' ? 'fs' : `${other}-*`}' options with mount type '${type}'`,
      );
    }
  }
  const target = fields.get('target');
  if (target === undefined || target === '') throw invalid(text, 'target is required');
  const destination = destinationOf(target, `--mount ${text}`);
  const readonly = fields.has('readonly') && booleanOf(fields, 'readonly');
  const options = restrictions.filter((option) => fields.has(option) && booleanOf(fields, option));
  const common = { destination, readonly, options };
  switch (type) {
    case 'bind': {
      checkBind(fields);
      const source = requireSource(fields, type);
      return { type, bind: { ...common, source: hostPath(source, cwd, text), create: false } };
    }
    case 'volume':
      return volumeOf(fields, common);
    case 'tmpfs':
      return { type, tmpfs: { destination, options: tmpfsOptions(fields, common) } };
    case 'image':
      if (options.length > 0) throw invalid(text, `${options.join(', ')} cannot be asked of an image`);
      return { type, image: { image: requireSource(fields, type), destination } };
    case 'disk': {
      const fs = fields.get('fs');
      const known = fileSystems.find((name) => name === fs);
      if (fs !== undefined && known === undefined) {
        throw invalid(text, `the file system "${fs}" is unknown`, `they are ${fileSystems.join(', ')}`);
      }
      const source = hostPath(requireSource(fields, type), cwd, text);
      return { type, disk: { ...common, source, ...(known !== undefined && { fs: known }) } };
    }
  }
}

function readFields(text: string): Fields {
  const found: { readonly key: string; readonly value: string | undefined }[] = [];
  for (const field of csvFields(text, `--mount ${text}`)) {
    const equals = field.indexOf('=');
    const written = (equals < 0 ? field : field.slice(0, equals)).toLowerCase();
    const key = aliases.get(written) ?? written;
    if (!Object.values(keysOf).some((keys) => keys.includes(key))) {
      if (equals < 0) throw invalid(text, `invalid field '${field}' must be a key=value pair`);
      throw invalid(text, `unexpected key '${written}' in '${field}'`);
    }
    if (equals < 0 && !flags.includes(key)) {
      throw invalid(text, `invalid field '${field}' must be a key=value pair`);
    }
    found.push({ key, value: equals < 0 ? undefined : field.slice(equals + 1) });
  }
  return {
    text,
    // the last one wins
    get: (key) => found.findLast((field) => field.key === key)?.value,
    all: (key) => found.flatMap((field) => (field.key === key ? [field.value ?? ''] : [])),
    has: (key) => found.some((field) => field.key === key),
  };
}

/** As Go's strconv.ParseBool. */
function booleanOf(fields: Fields, key: string): boolean {
  const value = fields.get(key);
  if (value === undefined || ['1', 't', 'T', 'TRUE', 'true', 'True'].includes(value)) return true;
  if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(value)) return false;
  throw invalid(fields.text, `invalid value for ${key}: ${value}`);
}

function checkBind(fields: Fields): void {
  const propagation = fields.get('bind-propagation');
  if (propagation !== undefined) checkPropagation(propagation, `--mount ${fields.text}`);
  const recursive = fields.get('bind-recursive') ?? 'enabled';
  if (recursive !== 'enabled') {
    throw invalid(fields.text, `bind-recursive=${recursive} is not supported`);
  }
}

function volumeOf(fields: Fields, common: Omit<VolumeWish, 'name' | 'nocopy' | 'labels'>): Volume {
  const { text } = fields;
  const source = fields.get('source') ?? '';
  const nocopy = fields.has('volume-nocopy') && booleanOf(fields, 'volume-nocopy');
  const driver = fields.get('volume-driver');
  const known: VolumeDriver | undefined = volumeDrivers.find((name) => name === driver);
  if (driver !== undefined && known === undefined) {
    throw invalid(text, `the volume driver "${driver}" is unknown`, `they are ${volumeDrivers.join(', ')}`);
  }
  if (source === '') {
    const plain = !nocopy && !common.readonly && driver === undefined && common.options.length === 0;
    if (!plain) throw invalid(text, 'an anonymous volume takes no options', 'name it with source=NAME');
    return { type: 'anonymous', destination: common.destination };
  }
  const labels = Object.fromEntries(fields.all('volume-label').map(parseLabel));
  const name = parseVolumeName(source);
  return { type: 'volume', volume: { ...common, name, nocopy, labels, ...(known && { driver: known }) } };
}

type VolumeWish = Extract<Volume, { type: 'volume' }>['volume'];

function tmpfsOptions(
  fields: Fields,
  { readonly, options }: { readonly readonly: boolean; readonly options: readonly string[] },
): string[] {
  const { text } = fields;
  if (fields.has('source')) throw invalid(text, 'a tmpfs has no source');
  const [size, mode] = [fields.get('tmpfs-size'), fields.get('tmpfs-mode')];
  if (mode !== undefined && !/^[0-7]{1,4}$/.test(mode))
    throw invalid(text, `invalid value for tmpfs-mode: ${mode}`);
  return [
    ...(size === undefined ? [] : [`size=${parseSize(size, `--mount ${text}: tmpfs-size`)}`]),
    ...(mode === undefined ? [] : [`mode=${mode}`]),
    ...(readonly ? ['ro'] : []),
    ...options,
  ];
}

function requireSource(fields: Fields, type: MountType): string {
  const source = fields.get('source') ?? '';
  if (source !== '') return source;
  throw invalid(fields.text, `a mount of type '${type}' needs a source`);
}

function hostPath(path: string, cwd: string, text: string): string {
  if (
    path.startsWith('/') ||
    path === '.' ||
    path.startsWith('./') ||
    path.startsWith('../') ||
    path === '..'
  ) {
    return posix.resolve(cwd, path);
  }
  throw invalid(text, `the source "${path}" must be absolute, or begin with ./`);
}

function invalid(text: string, why: string, hint?: string): HrunError {
  return new HrunError('INVALID_ARGUMENT', `invalid argument "${text}" for "--mount": ${why}`, {
    ...(hint !== undefined && { hint }),
  });
}
