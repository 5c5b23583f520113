import { type Duplex, duplexPair } from 'node:stream';
import { expect } from 'chai';
import { newVmId } from '../../../src/base/ids.ts';
import { QemuMicroVm } from '../../../src/vmm/qemu/qemuMicroVm.ts';
import { QmpConnection } from '../../../src/vmm/qemu/qmp.ts';

/** A microVM whose QEMU is `peer`: it takes commands, and answers when told to. */
function takenOver(): { vm: QemuMicroVm; peer: Duplex; commands: { execute: string; id: number }[] } {
  const [host, peer] = duplexPair();
  const commands: { execute: string; id: number }[] = [];
  let text = '';
  peer.on('data', (bytes: Buffer) => {
    const lines = (text + bytes.toString()).split('\n');
    text = lines.pop() ?? '';
    commands.push(...lines.map((line) => JSON.parse(line)));
  });
  // no process has these ticks, so that none is killed
  const record = {
    id: newVmId(),
    runDir: '/nowhere',
    pid: process.pid,
    pidStartTicks: '1',
    transport: 'serial',
  } as const;
  const vm = new QemuMicroVm({ record, qmp: new QmpConnection(host, 'microVM x'), status: 'running' });
  return { vm, peer, commands };
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise(setImmediate);
}

describe('a QEMU that was taken over', () => {
  it('cannot make the daemon ask without end', async () => {
    const { vm, peer, commands } = takenOver();
    for (let event = 0; event < 10_000; event += 1) peer.write('{"event": "STOP"}\n');
    await turns(20);
    expect(commands.map(({ execute }) => execute)).to.deep.equal(['query-status']);
    // what came meanwhile is asked for once more
    peer.write(`{"return": {"status": "paused"}, "id": ${commands[0]?.id}}\n`);
    await turns(20);
    expect(commands).to.have.length(2);
    peer.write(`{"return": {"status": "internal-error"}, "id": ${commands[1]?.id}}\n`);
    expect(await vm.ended).to.include({ kind: 'vmm-died' });
    expect(commands).to.have.length(2);
  });

  it('cannot make the daemon read its console without end', async () => {
    const { vm, peer, commands } = takenOver();
    for (let event = 0; event < 10_000; event += 1)
      peer.write('{"event": "SHUTDOWN", "data": {"guest": true}}\n');
    await turns(20);
    expect(commands.map(({ execute }) => execute)).to.deep.equal(['ringbuf-read']);
    peer.write(`{"return": "", "id": ${commands[0]?.id}}\n`);
    expect(await vm.ended).to.deep.equal({ kind: 'guest-reset' });
  });
});
