import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { arch } from 'node:process';
import { promisify } from 'node:util';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { Header, Pax } from 'tar';

const run = promisify(execFile);

/** One entry of a test's tar; a file unless it says otherwise. */
export interface TestEntry {
  readonly name: string;
  readonly type?: 'File' | 'Directory' | 'SymbolicLink' | 'Link' | 'CharacterDevice' | 'FIFO';
  readonly content?: string | Uint8Array;
  readonly target?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
}

/** A tar exactly as told, hostile names included. */
export function tarOf(entries: readonly TestEntry[]): Buffer {
  const blocks: Buffer[] = [];
  for (const { name, type = 'File', content = '', target, mode, uid = 0, gid = 0 } of entries) {
    const bytes = Buffer.from(content);
    const data = {
      path: name,
      type,
      size: bytes.length,
      mode: mode ?? (type === 'Directory' ? 0o755 : 0o644),
      uid,
      gid,
      mtime: new Date(0),
      ...(target !== undefined && { linkpath: target }),
    };
    const header = new Header(data);
    const block = Buffer.alloc(512);
    if (header.encode(block)) blocks.push(new Pax(data).encode());
    blocks.push(block, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512));
  }
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

/** The tar that GNU tar makes of a directory: xattrs, hard links, devices, owners and all. */
export async function tarOfDirectory(directory: string): Promise<Buffer> {
  const options = ['--xattrs', '--xattrs-include=*', '--numeric-owner', '--sort=name'];
  const { stdout } = await run('tar', [...options, '-C', directory, '-cf', '-', '.'], {
    encoding: 'buffer',
    maxBuffer: 1024 ** 3,
  });
  return stdout;
}

interface TestLayer {
  readonly tar: Uint8Array;
  readonly compression?: 'none' | 'gzip' | 'zstd';
}

export interface TestImageSpec {
  readonly layers: readonly TestLayer[];
  /** The `config` of the config: Cmd, Env, … */
  readonly config?: object;
  readonly architecture?: string;
  readonly os?: string;
  readonly variant?: string;
}

export interface TestDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

export interface TestImage {
  readonly manifest: TestDescriptor;
  readonly config: TestDescriptor;
  readonly layers: readonly TestDescriptor[];
  readonly diffIds: readonly string[];
  /** Every blob, the manifest included, by digest. */
  readonly blobs: ReadonlyMap<string, Uint8Array>;
  readonly platform: { readonly os: string; readonly architecture: string; readonly variant?: string };
}

const hostArchitecture = arch === 'x64' ? 'amd64' : arch;
const types = 'application/vnd.oci.image';
const suffixes = { none: '', gzip: '+gzip', zstd: '+zstd' };

/** An OCI image in memory. */
export function buildImage(spec: TestImageSpec): TestImage {
  const blobs = new Map<string, Uint8Array>();
  const put = (bytes: Uint8Array, mediaType: string): TestDescriptor => {
    const digest = digestOf(bytes);
    blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const putJson = (value: object, mediaType: string) => put(Buffer.from(JSON.stringify(value)), mediaType);
  const layers = spec.layers.map(({ tar, compression = 'gzip' }) =>
    put(compress(tar, compression), `${types}.layer.v1.tar${suffixes[compression]}`),
  );
  const diffIds = spec.layers.map(({ tar }) => digestOf(tar));
  const platform = {
    os: spec.os ?? 'linux',
    architecture: spec.architecture ?? hostArchitecture,
    ...(spec.variant !== undefined && { variant: spec.variant }),
  };
  const config = putJson(
    {
      created: '2024-05-06T07:08:09Z',
      ...platform,
      config: spec.config ?? { Cmd: ['sh'] },
      rootfs: { type: 'layers', diff_ids: diffIds },
      history: layers.map((_, index) => ({ created: '2024-05-06T07:08:09Z', created_by: `layer ${index}` })),
    },
    `${types}.config.v1+json`,
  );
  const mediaType = `${types}.manifest.v1+json`;
  const manifest = putJson({ schemaVersion: 2, mediaType, config, layers }, mediaType);
  return { manifest, config, layers, diffIds, blobs, platform };
}

/** An index over images of several platforms, with the blobs of all. */
export function buildIndex(images: readonly TestImage[]): {
  readonly bytes: Buffer;
  readonly index: TestDescriptor;
} {
  const mediaType = `${types}.index.v1+json`;
  const manifests = images.map(({ manifest, platform }) => ({ ...manifest, platform }));
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, manifests }));
  return { bytes, index: { mediaType, digest: digestOf(bytes), size: bytes.length } };
}

/** The files of an OCI layout, by path; `names` are the values of org.opencontainers.image.ref.name. */
export function layoutFiles(
  images: readonly { readonly image: TestImage; readonly name?: string }[],
): ReadonlyMap<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const manifests = images.map(({ image, name }) => ({
    ...image.manifest,
    ...(name !== undefined && { annotations: { 'org.opencontainers.image.ref.name': name } }),
  }));
  files.set('oci-layout', Buffer.from('{"imageLayoutVersion":"1.0.0"}'));
  files.set('index.json', Buffer.from(JSON.stringify({ schemaVersion: 2, manifests })));
  for (const { image } of images) {
    for (const [digest, bytes] of image.blobs) files.set(`blobs/${digest.replace(':', '/')}`, bytes);
  }
  return files;
}

/** Writes an OCI layout for skopeo, umoci or hrun. */
export async function writeLayout(directory: string, files: ReadonlyMap<string, Uint8Array>): Promise<void> {
  await mkdir(join(directory, 'blobs/sha256'), { recursive: true });
  for (const [path, bytes] of files) await writeFile(join(directory, path), bytes);
}

/** Pushes one image of a layout (by its ref name, or the only one) to a test registry: as it is, or converted to `format`. */
export async function pushLayout(
  directory: string,
  name: string | undefined,
  destination: string,
  options: { readonly credentials?: string; readonly all?: boolean; readonly format?: 'oci' | 'v2s2' } = {},
): Promise<void> {
  const { credentials, all = false, format } = options;
  await run('skopeo', [
    'copy',
    '--quiet',
    '--insecure-policy',
    '--dest-tls-verify=false',
    ...(all ? ['--all'] : []),
    ...(format === undefined ? ['--preserve-digests'] : ['--format', format]),
    ...(credentials === undefined ? [] : ['--dest-creds', credentials]),
    name === undefined ? `oci:${directory}` : `oci:${directory}:${name}`,
    `docker://${destination}`,
  ]);
}

export function digestOf(bytes: string | Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

export async function* streamOf(bytes: Uint8Array, pieceBytes = 65_536): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

function compress(tar: Uint8Array, compression: 'none' | 'gzip' | 'zstd'): Uint8Array {
  if (compression === 'none') return tar;
  return compression === 'gzip' ? gzipSync(tar) : zstdCompressSync(tar);
}
