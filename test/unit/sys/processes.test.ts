import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect } from 'chai';
import {
  identifyProcess,
  isAlive,
  type ProcessIdentity,
  residentBytes,
  signalProcess,
  waitUntilGone,
} from '../../../src/sys/processes.ts';

const never = new AbortController().signal;

async function startSleeper(): Promise<{ child: ChildProcess; identity: ProcessIdentity }> {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const identity = await identifyProcess(child.pid ?? 0);
  if (identity === undefined) throw new Error('sleep did not start');
  return { child, identity };
}

describe('processes', () => {
  it('identifies a live process and kills exactly it', async () => {
    const { child, identity } = await startSleeper();
    const exited = once(child, 'exit');
    expect(await isAlive(identity)).to.equal(true);
    expect(await residentBytes(identity.pid)).to.be.greaterThan(0);
    expect(await signalProcess(identity, 9)).to.equal(true);
    await waitUntilGone(identity, never);
    await exited;
    expect(await isAlive(identity)).to.equal(false);
    expect(await identifyProcess(identity.pid)).to.equal(undefined);
    expect(await residentBytes(identity.pid)).to.equal(undefined);
  });

  it('does not signal a process that reused the pid', async () => {
    const { child, identity } = await startSleeper();
    const exited = once(child, 'exit');
    expect(await signalProcess({ ...identity, startTicks: '1' }, 9)).to.equal(false);
    expect(await isAlive(identity)).to.equal(true);
    child.kill('SIGKILL');
    await exited;
    expect(await signalProcess(identity, 9)).to.equal(false);
  });

  it('stops waiting when the signal fires', async () => {
    const { child, identity } = await startSleeper();
    const exited = once(child, 'exit');
    const failure = await waitUntilGone(identity, AbortSignal.timeout(20)).catch((error: unknown) => error);
    expect(failure).to.have.property('name', 'AbortError');
    child.kill('SIGKILL');
    await exited;
  });
});
