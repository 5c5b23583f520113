import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import type { AttachIo, OutputChannel } from '../../../src/runtime/attachIo.ts';
import { type AttachPlan, attachSession } from '../../../src/runtime/attachSession.ts';
import type { LiveContainer } from '../../../src/runtime/liveContainers.ts';
import { OutputLog } from '../../../src/runtime/outputLog.ts';
import { containerRecord } from '../../helpers/containerRecord.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const plan: AttachPlan = {
  from: { stdout: 0n, stderr: 0n },
  ownsOutput: true,
  stdin: false,
  signalProxy: true,
  timing: false,
};

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Attaches to a container that has ended, and gives back what must not be held any more. */
async function attachOnce(log: OutputLog): Promise<readonly WeakRef<object>[]> {
  const signal = new AbortController().signal;
  const channel = () => ({
    write: async () => {},
    offset: 0n,
    written: 0n,
    closed: new AbortController().signal,
  });
  const io = {
    stdout: channel() as Partial<OutputChannel>,
    stderr: channel() as Partial<OutputChannel>,
    onSignal: () => ({ [Symbol.dispose]() {} }),
    detached: new AbortController().signal,
    settle: async () => {},
  } as Partial<AttachIo> as AttachIo;
  const live = {
    log,
    init: { endOutput() {} },
    holders: new Set(),
    ended: Promise.resolve({ exitCode: 3, oomKilled: false, error: '' }),
    finished: Promise.resolve(),
  } as unknown as LiveContainer;
  const ended = await attachSession(live, containerRecord('one'), plan, io, 0n, signal);
  expect(ended).to.include({ kind: 'exited', exitCode: 3 });
  return [new WeakRef(io), new WeakRef(live)];
}

describe('a command that was attached to a container', () => {
  it('is forgotten with all it had, once it has ended', async () => {
    await using directory = await temporaryDirectory();
    await using log = await OutputLog.open(join(directory.path, 'output.log'), {
      maxBytes: 1e6,
      maxFiles: 2,
    });
    log.end();
    const held = (await Promise.all([attachOnce(log), attachOnce(log), attachOnce(log)])).flat();
    // what is weak is looked at between turns of the event loop
    for (let turn = 0; turn < 5; turn += 1) {
      await setImmediate();
      collectGarbage();
    }
    expect(held.filter((reference) => reference.deref() !== undefined)).to.deep.equal([]);
  });
});
