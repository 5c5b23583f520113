import { expect } from 'chai';
import { HrunError } from '../../../src/base/errors.ts';
import { newVmId } from '../../../src/base/ids.ts';
import type { MicroVm, VmEnd } from '../../../src/vmm/microVm.ts';
import { whileRunning } from '../../../src/vmm/whileRunning.ts';

const soon = () => AbortSignal.timeout(5000);

function fakeVm(consoleText: string): { vm: MicroVm; end: (end: VmEnd) => void } {
  const ended = Promise.withResolvers<VmEnd>();
  const nothing = () => Promise.resolve();
  const vm: MicroVm = {
    record: { id: newVmId(), runDir: '/', pid: 1, pidStartTicks: '1', transport: 'serial' },
    dial: () => Promise.reject(new Error('unused')),
    plugDisk: nothing,
    plugOpenDisk: nothing,
    unplugDisk: nothing,
    plugNic: nothing,
    unplugNic: nothing,
    fillSlot: nothing,
    pause: nothing,
    resume: nothing,
    save: () => Promise.reject(new Error('unused')),
    consoleTail: () => Promise.resolve(consoleText),
    ended: ended.promise,
    kill: nothing,
    [Symbol.asyncDispose]: nothing,
  };
  return { vm, end: ended.resolve };
}

/** Waits for the signal, as a call to the agent does. */
function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.fail('it did not fail'),
    (error: unknown) => error,
  );
}

describe('whileRunning', () => {
  it('gives what the work gives', async () => {
    expect(await whileRunning(fakeVm('').vm, 'booting', soon(), async () => 5)).to.equal(5);
  });

  it('stops the work when the guest panics, and shows the last lines of its console', async () => {
    const { vm, end } = fakeVm('one\n\nKernel panic - not syncing: no init\n');
    const failure = failureOf(whileRunning(vm, 'booting', soon(), untilAborted));
    end({ kind: 'guest-panic' });
    expect(await failure).to.have.property('code', 'VM_BOOT_FAILED');
    expect(await failure)
      .to.have.property('message')
      .that.includes('had a kernel panic while booting');
    expect(await failure)
      .to.have.property('hint')
      .that.includes('one\n  Kernel panic - not syncing: no init');
  });

  it('prefers the end of the guest to the broken connection that it causes', async () => {
    const { vm, end } = fakeVm('');
    const failure = failureOf(
      whileRunning(vm, 'running', soon(), async () => {
        setImmediate(() => end({ kind: 'vmm-died', detail: 'QEMU was ended by SIGKILL' }));
        throw new HrunError('AGENT_UNREACHABLE', 'gone');
      }),
    );
    expect(await failure).to.have.property('code', 'VM_DIED');
    expect(await failure)
      .to.have.property('message')
      .that.includes('QEMU was ended by SIGKILL');
  });

  it('passes every other failure on, at once', async () => {
    const refused = new HrunError('COMMAND_NOT_FOUND', 'no such command');
    const work = () => Promise.reject(refused);
    expect(await failureOf(whileRunning(fakeVm('').vm, 'running', soon(), work))).to.equal(refused);
    const stop = AbortSignal.abort(new Error('enough'));
    const stopped = whileRunning(fakeVm('').vm, 'running', stop, (signal) => {
      signal.throwIfAborted();
      return Promise.resolve();
    });
    expect(await failureOf(stopped)).to.have.property('message', 'enough');
  });
});
