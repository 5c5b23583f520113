import { expect } from 'chai';
import fc from 'fast-check';
import { type Frame, FrameReader, frameHeader, frameType } from '../../../src/agent/linkFrames.ts';

function frame(data: Uint8Array, epoch = 7n, type: number = frameType.data): Buffer {
  return Buffer.concat([frameHeader(epoch, type, data.length), data]);
}

function readInPieces(bytes: Buffer, cuts: readonly number[]): { frames: Frame[]; dropped: number } {
  const reader = new FrameReader();
  const frames: Frame[] = [];
  const ends = [...cuts, bytes.length].map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b);
  let start = 0;
  for (const end of ends) {
    frames.push(...reader.read(bytes.subarray(start, end)));
    start = end;
  }
  return { frames, dropped: reader.droppedBytes };
}

// bytes that make the search for a header stumble: beginnings of the magic number
const garbage = fc.array(fc.constantFrom(0x68, 0x52, 0x4c, 0x31, 0x00, 0xff), { maxLength: 64 });
const payload = fc.uint8Array({ minLength: 1, maxLength: 200 });
const cuts = fc.array(fc.nat(2000), { maxLength: 20 });

describe('link frames', () => {
  it('are found whatever stands before and between them, cut anywhere', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(garbage, payload), { maxLength: 6 }), cuts, (parts, where) => {
        const bytes = Buffer.concat(parts.flatMap(([noise, data]) => [Buffer.from(noise), frame(data)]));
        const { frames, dropped } = readInPieces(bytes, where);
        expect(frames.map(({ data }) => [...data])).to.deep.equal(parts.map(([, data]) => [...data]));
        expect(dropped).to.equal(parts.reduce((sum, [noise]) => sum + noise.length, 0));
      }),
    );
  });

  it('survive being split at each byte', () => {
    const bytes = Buffer.concat([frame(Buffer.from('one')), frame(Buffer.from('two'), 8n, frameType.close)]);
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      const { frames } = readInPieces(bytes, [cut]);
      expect(frames.map(({ epoch, type, data }) => [epoch, type, data.toString()])).to.deep.equal([
        [7n, frameType.data, 'one'],
        [8n, frameType.close, 'two'],
      ]);
    }
  });

  it('cost only themselves when one byte of a header is wrong', () => {
    const broken = frame(Buffer.from('lost'));
    fc.assert(
      fc.property(fc.nat(19), fc.integer({ min: 1, max: 255 }), cuts, (at, flip, where) => {
        const bytes = Buffer.from(broken);
        bytes[at] = (bytes[at] ?? 0) ^ flip;
        const { frames } = readInPieces(Buffer.concat([bytes, frame(Buffer.from('kept'))]), where);
        expect(frames.map(({ data }) => data.toString())).to.deep.equal(['kept']);
      }),
    );
  });

  it('longer than the limit are no frames', () => {
    const { frames, dropped } = readInPieces(frame(Buffer.alloc(32 * 1024 + 1)), []);
    expect(frames).to.deep.equal([]);
    expect(dropped).to.equal(20 + 32 * 1024 + 1);
  });

  it('keep at most one unfinished frame', () => {
    const reader = new FrameReader();
    const noise = Buffer.alloc(1024 * 1024, 'hRL');
    expect([...reader.read(noise)]).to.deep.equal([]);
    expect(reader.droppedBytes).to.be.within(noise.length - 20, noise.length);
  });
});
