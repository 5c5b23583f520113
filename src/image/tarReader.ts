import { Header, Pax } from 'tar';
import { messageOf } from '../base/errors.ts';

/** One entry of a tar. The body must be read, in whole or in part, before the next entry is asked for. */
export interface TarEntry {
  /** As the archive has it, without a leading `./`; never to be used as a path. */
  readonly name: string;
  readonly kind: 'file' | 'link' | 'other';
  readonly size: number;
  /** Of hard links and symbolic links. */
  readonly target: string;
  readonly symbolic: boolean;
  readonly body: AsyncIterable<Uint8Array>;
}

/** The archive breaks the format or a limit. */
export class TarError extends Error {}

const blockBytes = 512;
const maxMetadataBytes = 1024 * 1024;

/**
 * Reads an archive of an archive (OCI layout, docker-archive) entry by entry, at the reader's pace. Not for layers:
 * those are unpacked in a guest.
 * @throws TarError
 */
export async function* readTar(
  source: AsyncIterable<Uint8Array>,
  limits: { readonly maxEntries: number },
): AsyncGenerator<TarEntry> {
  const input = new ByteSource(source);
  try {
    let extended: Pax | undefined;
    let global: Pax | undefined;
    let longName: string | undefined;
    let longTarget: string | undefined;
    for (let entries = 0; ; ) {
      const block = await input.take(blockBytes);
      if (block === undefined) {
        if (entries === 0) throw new TarError('it is empty');
        return; // some writers leave out the final zeros
      }
      if (block.every((byte) => byte === 0)) return;
      const header = decodeHeader(block, extended, global);
      const size = header.size ?? 0;
      if (!Number.isSafeInteger(size) || size < 0) throw new TarError('an entry has an impossible size');
      const { type } = header;
      if (isMetadata(type)) {
        const text = await readMetadata(input, size);
        if (type === 'GlobalExtendedHeader') global = Pax.parse(text, global, true);
        else if (type === 'ExtendedHeader' || type === 'OldExtendedHeader')
          extended = Pax.parse(text, extended);
        else if (type === 'NextFileHasLongLinkpath') longTarget = text.replace(/\0.*$/s, '');
        else longName = text.replace(/\0.*$/s, '');
        continue;
      }
      entries += 1;
      if (entries > limits.maxEntries) throw new TarError(`it has more than ${limits.maxEntries} entries`);
      const isLink = type === 'Link' || type === 'SymbolicLink';
      const isFile = type === 'File' || type === 'OldFile' || type === 'ContiguousFile';
      const body = input.section(isLink ? 0 : size);
      yield {
        name: (longName ?? header.path ?? '').replace(/^(\.\/)+/, ''),
        kind: isFile ? 'file' : isLink ? 'link' : 'other',
        size: isLink ? 0 : size,
        target: longTarget ?? header.linkpath ?? '',
        symbolic: type === 'SymbolicLink',
        body,
      };
      await body.finish();
      extended = undefined;
      longName = undefined;
      longTarget = undefined;
    }
  } finally {
    await input.close();
  }
}

function decodeHeader(block: Buffer, extended: Pax | undefined, global: Pax | undefined): Header {
  let header: Header;
  try {
    header = new Header(block, 0, extended, global);
  } catch (cause) {
    throw new TarError(`an entry's header cannot be read: ${messageOf(cause)}`, { cause });
  }
  if (!header.cksumValid) throw new TarError('an entry has a wrong header checksum');
  return header;
}

function isMetadata(type: string): boolean {
  return /^(OldGnuLongPath|NextFileHasLongPath|NextFileHasLongLinkpath|(Global|Old)?ExtendedHeader)$/.test(
    type,
  );
}

async function readMetadata(input: ByteSource, size: number): Promise<string> {
  if (size > maxMetadataBytes) throw new TarError('an extended header is too long');
  const bytes = await input.take(Math.ceil(size / blockBytes) * blockBytes);
  if (bytes === undefined) throw new TarError('it is cut off');
  return bytes.subarray(0, size).toString('utf8');
}

interface Section extends AsyncIterable<Uint8Array> {
  /** Skips what was not read, padding included. */
  finish(): Promise<void>;
}

/** Bytes by count out of chunks of any size. */
class ByteSource {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array();

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#iterator = source[Symbol.asyncIterator]();
  }

  /** Exactly `length` bytes, undefined at the end. @throws TarError when it ends in between */
  async take(length: number): Promise<Buffer | undefined> {
    const parts: Uint8Array[] = [];
    let missing = length;
    while (missing > 0) {
      const part = await this.#some(missing);
      if (part === undefined) {
        if (missing === length) return undefined;
        throw new TarError('it is cut off');
      }
      parts.push(part);
      missing -= part.length;
    }
    return Buffer.concat(parts);
  }

  section(size: number): Section {
    let left = size;
    const padding = (blockBytes - (size % blockBytes)) % blockBytes;
    const next = async (): Promise<Uint8Array | undefined> => {
      if (left === 0) return undefined;
      const part = await this.#some(left);
      if (part === undefined) throw new TarError('it is cut off');
      left -= part.length;
      return part;
    };
    return {
      async *[Symbol.asyncIterator]() {
        for (let part = await next(); part !== undefined; part = await next()) yield part;
      },
      finish: async () => {
        while ((await next()) !== undefined);
        if (padding > 0 && (await this.take(padding)) === undefined) throw new TarError('it is cut off');
      },
    };
  }

  async close(): Promise<void> {
    await this.#iterator.return?.();
  }

  async #some(atMost: number): Promise<Uint8Array | undefined> {
    while (this.#rest.length === 0) {
      const next = await this.#iterator.next();
      if (next.done) return undefined;
      this.#rest = next.value;
    }
    const part = this.#rest.subarray(0, atMost);
    this.#rest = this.#rest.subarray(part.length);
    return part;
  }
}
