import { once } from 'node:events';
import { type Duplex, duplexPair } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { expect } from 'chai';
import fc from 'fast-check';
import { openLink } from '../../../src/agent/link.ts';
import { frameHeader, frameType } from '../../../src/agent/linkFrames.ts';
import { GuestLink } from '../../helpers/guestLink.ts';

const soon = () => AbortSignal.timeout(5000);

/** A link whose guest sends back what it gets. */
async function openEcho(prepare?: (guest: GuestLink, guestPort: Duplex) => void) {
  const [hostPort, guestPort] = duplexPair();
  const guest = new GuestLink(guestPort, (stream) => stream.pipe(stream));
  prepare?.(guest, guestPort);
  const stream = await openLink(hostPort, soon());
  return { stream, guest, guestPort, hostPort };
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe('the link', () => {
  it('carries bytes both ways and ends', async () => {
    const { stream } = await openEcho();
    const sent = Buffer.alloc(300_000, 'abc');
    stream.end(sent);
    expect((await buffer(stream)).equals(sent)).to.equal(true);
  });

  it('opens whatever the pipe still holds', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 300 }),
        fc.bigInt({ min: 1n, max: 2n ** 64n - 1n }),
        async (noise, epoch) => {
          const { stream } = await openEcho((guest, port) => {
            port.write(noise);
            guest.send(epoch, frameType.opened);
            guest.send(epoch, frameType.data, Buffer.from('stale'));
            port.write(frameHeader(epoch, frameType.data, 5)); // a frame whose data never came
          });
          stream.write('fresh');
          const [answer] = await once(stream, 'data');
          expect(answer.toString()).to.equal('fresh');
          stream.destroy();
        },
      ),
      { numRuns: 30 },
    );
  });

  it('repeats an OPEN that was lost', async () => {
    const { stream } = await openEcho((guest) => {
      guest.loseOpens = 4;
    });
    stream.end('x');
    expect((await buffer(stream)).toString()).to.equal('x');
  });

  it('ignores frames of another epoch, of an unknown type or with unknown flags', async () => {
    const { stream, guest } = await openEcho();
    guest.send(guest.epoch + 1n, frameType.data, Buffer.from('other'));
    guest.send(guest.epoch + 1n, frameType.close);
    guest.send(guest.epoch, 200, Buffer.from('unknown'));
    guest.send(guest.epoch, frameType.opened);
    stream.end('mine');
    expect((await buffer(stream)).toString()).to.equal('mine');
  });

  it('stops a guest that sends more than is read', async () => {
    const { stream, guest, guestPort } = await openEcho();
    await new Promise(setImmediate);
    const chunk = Buffer.alloc(32 * 1024);
    let sent = 0;
    while (!guestPort.writableNeedDrain && sent < 10_000) {
      guest.send(guest.epoch, frameType.data, chunk);
      sent += 1;
      await new Promise(setImmediate);
    }
    expect(sent).to.be.lessThan(20);
    stream.destroy();
  });

  it('stops when told to, while the guest does not answer', async () => {
    const [hostPort] = duplexPair();
    const failure = await failureOf(openLink(hostPort, AbortSignal.timeout(30)));
    expect(failure).to.have.property('name', 'TimeoutError');
    expect(hostPort.destroyed).to.equal(true);
  });

  it('tells when the port is closed, before and after it opened', async () => {
    const [hostPort, guestPort] = duplexPair();
    const opening = openLink(hostPort, soon());
    guestPort.destroy();
    expect(await failureOf(opening)).to.have.property('code', 'AGENT_UNREACHABLE');
    const opened = await openEcho();
    opened.guestPort.destroy();
    const [error] = await once(opened.stream, 'error');
    expect(error).to.have.property('code', 'AGENT_UNREACHABLE');
  });

  it('gives up a guest that floods it with nonsense', async () => {
    const [hostPort, guestPort] = duplexPair();
    const opening = failureOf(openLink(hostPort, soon()));
    while (!hostPort.destroyed) {
      guestPort.write(Buffer.alloc(256 * 1024, 'h'));
      await new Promise(setImmediate);
    }
    expect(await opening).to.have.property('code', 'AGENT_PROTOCOL');
  });

  it('gives up an opened guest that goes on about old epochs', async () => {
    const { stream, guest } = await openEcho();
    const failed = once(stream, 'error');
    while (!stream.destroyed) {
      guest.send(guest.epoch + 1n, frameType.data, Buffer.alloc(32 * 1024));
      await new Promise(setImmediate);
    }
    expect((await failed)[0]).to.have.property('code', 'AGENT_PROTOCOL');
  });

  for (const [what, send] of [
    ['opens again and again', (guest: GuestLink) => guest.send(guest.epoch, frameType.opened)],
    ['sends nothing, in frames', (guest: GuestLink) => guest.send(guest.epoch, frameType.data)],
    [
      'sends frames of a type that there is not',
      (guest: GuestLink) => guest.send(guest.epoch, 9, Buffer.alloc(30_000)),
    ],
  ] as const) {
    it(`gives up a guest that ${what}`, async () => {
      const { stream, guest } = await openEcho();
      const failed = once(stream, 'error');
      for (let sent = 0; !stream.destroyed; sent += 1) {
        expect(sent).to.be.lessThan(100_000);
        send(guest);
        if (sent % 500 === 0) await new Promise(setImmediate);
      }
      expect((await failed)[0]).to.have.property('code', 'AGENT_PROTOCOL');
    });
  }

  it('takes nothing after the end', async () => {
    const { stream, guest } = await openEcho();
    guest.send(guest.epoch, frameType.data, Buffer.from('last'));
    guest.send(guest.epoch, frameType.close);
    guest.send(guest.epoch, frameType.data, Buffer.from('more'));
    expect((await buffer(stream)).toString()).to.equal('last');
  });

  it('lets a second host connection take over, mid-frame', async () => {
    // the port joins the bytes of both connections, as virtio-serial does
    const [wire, guestPort] = duplexPair();
    new GuestLink(guestPort, (stream) => stream.pipe(stream));
    const first = await openLink(portTo(wire), soon());
    first.write('first');
    await once(first, 'data');
    wire.write(frameHeader(1n, frameType.data, 20_000)); // cut off by the host's death
    wire.write(Buffer.alloc(700, 1));
    wire.removeAllListeners('data');
    const second = await openLink(portTo(wire), soon());
    second.write('second');
    const [answer] = await once(second, 'data');
    expect(answer.toString()).to.equal('second');
  });
});

/** A host connection to `wire` that can go without closing it. */
function portTo(wire: Duplex): Duplex {
  const [mine, theirs] = duplexPair();
  theirs.on('data', (bytes) => void wire.write(bytes));
  wire.on('data', (bytes) => void theirs.write(bytes));
  return mine;
}
