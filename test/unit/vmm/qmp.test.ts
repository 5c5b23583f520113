import { type Duplex, duplexPair } from 'node:stream';
import { expect } from 'chai';
import fc from 'fast-check';
import { QmpConnection, type QmpEvent } from '../../../src/vmm/qemu/qmp.ts';

const soon = () => AbortSignal.timeout(5000);
const greeting =
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}';

interface Command {
  readonly execute: string;
  readonly arguments: object;
  readonly id: number;
}

/** QEMU's end: answers each command with what `answer` gives. */
function serve(answer: (command: Command) => object | undefined): { qmp: QmpConnection; peer: Duplex } {
  const [host, peer] = duplexPair();
  let text = '';
  peer.on('data', (bytes: Buffer) => {
    const lines = (text + bytes.toString()).split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) {
      const command = JSON.parse(line);
      const reply = answer(command);
      if (reply !== undefined) peer.write(`${JSON.stringify({ ...reply, id: command.id })}\r\n`);
    }
  });
  peer.on('error', () => {});
  return { qmp: new QmpConnection(host, 'microVM x'), peer };
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.fail('it did not fail'),
    (error: unknown) => error,
  );
}

describe('a QMP connection', () => {
  it('negotiates and executes', async () => {
    const seen: string[] = [];
    const { qmp, peer } = serve(({ execute }) => {
      seen.push(execute);
      return { return: { status: 'running' } };
    });
    peer.write(`${greeting}\r\n`);
    await qmp.negotiate(soon());
    expect(await qmp.execute('query-status', {}, soon())).to.deep.equal({ status: 'running' });
    expect(seen).to.deep.equal(['qmp_capabilities', 'query-status']);
  });

  it('matches answers by id, in any order', async () => {
    const { qmp, peer } = serve(() => undefined);
    const [one, two] = [qmp.execute('one', {}, soon()), qmp.execute('two', {}, soon())];
    peer.write(
      '{"return": "second", "id": 2}\r\n{"return": "first", "id": 1}\r\n{"return": "nobody", "id": 9}\r\n',
    );
    expect(await Promise.all([one, two])).to.deep.equal(['first', 'second']);
  });

  it('reads lines however they are cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(200), { maxLength: 12 }), async (cuts) => {
        const { qmp, peer } = serve(() => undefined);
        const events: QmpEvent[] = [];
        qmp.onEvent((event) => events.push(event));
        const answer = qmp.execute('x', {}, soon());
        const bytes = Buffer.from(
          `${greeting}\r\n{"event": "RESUME", "timestamp": {}}\r\n{"return": {"text": "äöü"}, "id": 1}\r\n`,
        );
        let start = 0;
        for (const end of [...cuts, bytes.length].sort((a, b) => a - b)) {
          peer.write(bytes.subarray(start, end));
          start = Math.min(end, bytes.length);
        }
        expect(await answer).to.deep.equal({ text: 'äöü' });
        expect(events).to.deep.equal([{ event: 'RESUME', data: {} }]);
        qmp[Symbol.dispose]();
      }),
      { numRuns: 50 },
    );
  });

  it('tells what QEMU refuses, by name', async () => {
    const { qmp } = serve(() => ({ error: { class: 'GenericError', desc: "Device 'x' not found" } }));
    const failure = await failureOf(qmp.execute('device_del', { id: 'x' }, soon()));
    expect(failure).to.have.property('code', 'QEMU_FAILED');
    expect(failure).to.have.property('message').that.includes("device_del: Device 'x' not found");
  });

  it('fails what is pending, and all that comes later, when QEMU goes away', async () => {
    const { qmp, peer } = serve(() => undefined);
    const pending = failureOf(qmp.execute('x', {}, soon()));
    const event = failureOf(qmp.nextEvent(() => true, soon()));
    peer.destroy();
    expect(await pending).to.have.property('code', 'VM_DIED');
    expect(await event).to.have.property('code', 'VM_DIED');
    expect(await failureOf(qmp.execute('y', {}, soon()))).to.have.property('code', 'VM_DIED');
    expect(await qmp.closed).to.have.property('code', 'VM_DIED');
  });

  it('gives up a command when told to, and ignores its late answer', async () => {
    const { qmp, peer } = serve(({ execute }) => (execute === 'quick' ? { return: 1 } : undefined));
    const stop = new AbortController();
    const slow = failureOf(qmp.execute('slow', {}, stop.signal));
    stop.abort(new Error('enough'));
    expect(await slow).to.have.property('message', 'enough');
    peer.write('{"return": "late", "id": 1}\r\n');
    expect(await qmp.execute('quick', {}, soon())).to.equal(1);
  });

  it('waits for the event that matters', async () => {
    const { qmp, peer } = serve(() => undefined);
    const deleted = qmp.nextEvent(({ data }) => data.device === 'b', soon());
    for (const device of ['a', 'b'])
      peer.write(`{"event": "DEVICE_DELETED", "data": {"device": "${device}"}}\r\n`);
    expect((await deleted).data.device).to.equal('b');
  });

  for (const [what, bytes] of [
    ['no JSON', '{"return": \r\n'],
    ['no QMP', '{"hello": 1}\r\n'],
    ['an event of wrong types', '{"event": "SHUTDOWN", "data": {"guest": "yes"}}\r\n'],
  ] as const) {
    it(`ends when QEMU sends ${what}`, async () => {
      const { qmp, peer } = serve(() => undefined);
      const pending = failureOf(qmp.execute('x', {}, soon()));
      peer.write(bytes);
      expect(await pending).to.have.property('code', 'QEMU_FAILED');
      expect(await qmp.closed).to.have.property('code', 'QEMU_FAILED');
    });
  }

  it('ends when QEMU sends a line without end', async () => {
    const { qmp, peer } = serve(() => undefined);
    const closed = qmp.closed;
    for (let sent = 0; sent <= 1024 * 1024; sent += 64 * 1024) peer.write(Buffer.alloc(64 * 1024, 'x'));
    expect(await closed).to.have.property('code', 'QEMU_FAILED');
  });
});
