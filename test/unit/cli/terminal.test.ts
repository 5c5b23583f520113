import { Writable } from 'node:stream';
import { expect } from 'chai';
import { parseDetachKeys, withDetachKeys } from '../../../src/cli/detachKeys.ts';
import { openProgress } from '../../../src/cli/render/progress.ts';
import type { InputPiece } from '../../../src/runtime/attachIo.ts';

const never = new AbortController().signal;

async function typed(
  pieces: readonly string[],
  keys: string,
): Promise<{ got: string; offsets: bigint[]; detached: boolean }> {
  let detached = false;
  const input = {
    async *read(): AsyncGenerator<InputPiece> {
      let offset = 0n;
      for (const piece of pieces) {
        yield { offset, bytes: Buffer.from(piece) };
        offset += BigInt(piece.length);
      }
    },
    accept() {},
    close() {},
  };
  const watched = withDetachKeys(input, parseDetachKeys(keys), () => {
    detached = true;
  });
  let got = '';
  const offsets: bigint[] = [];
  for await (const { offset, bytes } of watched.read(0n, never)) {
    offsets.push(offset);
    got += Buffer.from(bytes).toString();
  }
  return { got, offsets, detached };
}

describe('detach keys', () => {
  it('are read as Docker writes them', () => {
    expect(parseDetachKeys('ctrl-p,ctrl-q')).to.deep.equal([16, 17]);
    expect(parseDetachKeys('a,ctrl-[,ctrl-_,DEL')).to.deep.equal([97, 27, 31, 127]);
    expect(parseDetachKeys('')).to.deep.equal([]);
    expect(() => parseDetachKeys('ctrl-P')).to.throw('unknown key');
  });
  it('detach wherever they are typed, and do not get through', async () => {
    expect(await typed(['a\x10', '\x11b'], 'ctrl-p,ctrl-q')).to.deep.equal({
      got: 'a',
      offsets: [0n],
      detached: true,
    });
    expect(await typed(['ab\x10\x11c'], 'ctrl-p,ctrl-q')).to.deep.include({ got: 'ab', detached: true });
  });
  it('hold back a beginning until it is none, with the right offsets', async () => {
    expect(await typed(['a\x10', 'b'], 'ctrl-p,ctrl-q')).to.deep.equal({
      got: 'a\x10b',
      offsets: [0n, 1n],
      detached: false,
    });
    expect(await typed(['\x10'], 'ctrl-p,ctrl-q')).to.deep.include({ got: '\x10', offsets: [0n] });
    expect(await typed(['xx', 'xy'], 'x,x,y')).to.deep.include({ got: 'x', detached: true });
  });
  it('can be none', async () => {
    expect(await typed(['\x10\x11'], '')).to.deep.include({ got: '\x10\x11', detached: false });
  });
});

describe('progress', () => {
  function open(isTerminal: boolean, quiet = false) {
    let text = '';
    let nowMs = 0;
    const output = new Writable({
      write(chunk, _encoding, done) {
        text += chunk;
        done();
      },
    });
    const progress = openProgress({ output, isTerminal, columns: () => 60, quiet, now: () => nowMs });
    const tick = (ms: number) => {
      nowMs += ms;
    };
    return { progress, text: () => text, tick };
  }

  it('draws bars over again, not for every byte', () => {
    const { progress, text, tick } = open(true);
    progress.message('Pulling');
    progress.part('abc', 'Downloading', { current: 5_000_000, total: 10_000_000, unit: 'bytes' });
    for (let current = 0; current < 1000; current++) {
      progress.part('abc', 'Downloading', { current, total: 10_000_000, unit: 'bytes' });
    }
    tick(200);
    progress.part('def', 'Waiting');
    progress.part('abc', 'Done');
    progress.stop();
    const frames = text().split('\x1b[J');
    expect(frames.length).to.equal(4);
    expect(frames[1]).to.include('abc: Downloading [==============>               ] 5MB/10MB');
    expect(frames[3]).to.equal('abc: Done\ndef: Waiting\n');
  });

  it('is a line per change where there is no terminal, and harmless', () => {
    const { progress, text } = open(false);
    progress.part('a\u001b', 'Extracting', { current: 1, unit: 'entries' });
    progress.part('a\u001b', 'Extracting', { current: 2, unit: 'entries' });
    progress.stop();
    expect(text()).to.equal('a?: Extracting\n');
  });

  it('is nothing when quiet', () => {
    const { progress, text } = open(true, true);
    progress.message('x');
    progress.part('a', 'b');
    progress.stop();
    expect(text()).to.equal('');
  });
});
