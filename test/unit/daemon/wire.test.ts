import { expect } from 'chai';
import fc from 'fast-check';
import { isHrunError } from '../../../src/base/errors.ts';
import { frontFrameSplitter, maxFrameBytes, parseFrontFrame } from '../../../src/daemon/wire.ts';
import { frontFrame, helloFrame, list, sizedJson, u32, u64 } from '../../helpers/frontDoor.ts';

function split(bytes: Buffer, cuts: readonly number[]): { type: number; body: Buffer }[] {
  const splitter = frontFrameSplitter();
  const frames: { type: number; body: Buffer }[] = [];
  let from = 0;
  for (const cut of [...cuts.map((c) => c % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]) {
    frames.push(...splitter.push(bytes.subarray(from, cut)));
    from = cut;
  }
  return frames;
}

function isProtocolError(work: () => unknown): boolean {
  try {
    work();
  } catch (error) {
    return isHrunError(error, 'WIRE_PROTOCOL');
  }
  return false;
}

const parse = (type: number, ...parts: Uint8Array[]) => parseFrontFrame(type, Buffer.concat(parts));

describe('the wire', () => {
  it('gives back every frame, however the stream was cut', () => {
    const frame = fc.record({
      type: fc.integer({ min: 0, max: 255 }),
      body: fc.uint8Array({ maxLength: 300 }),
    });
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 20 }),
        fc.array(fc.nat(), { maxLength: 30 }),
        (frames, cuts) => {
          const bytes = Buffer.concat(frames.map(({ type, body }) => frontFrame(type, body)));
          const got = split(bytes, cuts);
          expect(got.map(({ type }) => type)).to.deep.equal(frames.map(({ type }) => type));
          expect(got.every(({ body }, i) => body.equals(frames[i]?.body ?? new Uint8Array()))).to.equal(true);
        },
      ),
    );
  });

  it('is never broken by garbage: a value or a protocol error', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 12 }), fc.uint8Array({ maxLength: 200 }), (type, body) => {
        try {
          parseFrontFrame(type, Buffer.from(body));
        } catch (error) {
          if (!isHrunError(error)) throw error;
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('refuses a frame that is too long before it has arrived', () => {
    const head = (length: number, type: number) => Buffer.concat([u32(length), Buffer.of(type)]);
    const push = (bytes: Buffer) => () => [...frontFrameSplitter().push(bytes)];
    expect(push(head(maxFrameBytes, 0x03))()).to.deep.equal([]);
    expect(isProtocolError(push(head(maxFrameBytes + 1, 0x03)))).to.equal(true);
    expect(push(head(maxFrameBytes + 1, 0x01))()).to.deep.equal([]);
    expect(isProtocolError(push(head(0xffffffff, 0x01)))).to.equal(true);
    expect(isProtocolError(push(head(0, 0x03)))).to.equal(true);
  });

  it('reads a HELLO', () => {
    const bytes = helloFrame({
      argv: ['run', '-e', 'ü='],
      environment: ['A=1=2', 'B=', '=x', 'C'],
      cwd: '/x',
    });
    const frame = parseFrontFrame(1, bytes.subarray(5));
    if (frame.type !== 'hello') throw new Error(frame.type);
    expect(frame.hello.argv).to.deep.equal(['run', '-e', 'ü=']);
    expect([...frame.hello.environment]).to.deep.equal([
      ['A', '1=2'],
      ['B', ''],
    ]);
    expect(frame.hello.header.cwd).to.equal('/x');
  });

  it('says which argument is no UTF-8', () => {
    const valid = helloFrame({ argv: [] }).subarray(5);
    const header = valid.subarray(0, 4 + valid.readUInt32LE(0));
    const hello = () => parse(1, header, list(['a', Buffer.of(0xff)]), list([]));
    expect(hello).to.throw('argument 2 is not valid UTF-8');
  });

  it('refuses another version and a header that is none', () => {
    for (const header of [{ version: 2 }, [], null, 'x']) {
      expect(isProtocolError(() => parse(1, sizedJson(header), list([]), list([])))).to.equal(true);
    }
  });

  it('reads the small frames', () => {
    expect(parse(3, u64(7), Buffer.from('x'))).to.deep.include({ type: 'stdin', offset: 7n });
    expect(parse(4, u64(8))).to.deep.equal({ type: 'stdinEnd', offset: 8n });
    expect(parse(5, Buffer.of(24, 0, 80, 0))).to.deep.equal({ type: 'window', rows: 24, columns: 80 });
    expect(parse(6, u32(15))).to.deep.equal({ type: 'signal', number: 15 });
    expect(parse(7, Buffer.of(2), u64(9))).to.deep.equal({ type: 'written', stream: 'stderr', offset: 9n });
    expect(parse(10, Buffer.of(1))).to.deep.equal({ type: 'outputGone', stream: 'stdout' });
    expect(parse(9, u32(3), u32(2), sizedJson({ a: 1 }), Buffer.from('b'))).to.deep.include({
      type: 'handDone',
      id: 3,
      errno: 2,
      result: { a: 1 },
    });
  });

  it('refuses bytes left over, missing bytes and unknown streams', () => {
    for (const frame of [
      () => parse(8, Buffer.of(0)),
      () => parse(4, Buffer.of(1, 2)),
      () => parse(7, Buffer.of(3), u64(0)),
      () => parse(3, u64(0), Buffer.alloc(65537)),
      () => parse(1, u32(0xffffffff)),
      () => parse(0x81, u32(1)),
    ]) {
      expect(isProtocolError(frame)).to.equal(true);
    }
  });
});
