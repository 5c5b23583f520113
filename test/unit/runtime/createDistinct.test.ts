import { expect } from 'chai';
import { abortable } from '../../../src/base/abort.ts';
import { createDistinct } from '../../../src/runtime/createDistinct.ts';

const never = new AbortController().signal;
const silent = (signal: AbortSignal) => abortable(new Promise(() => {}), signal);
const reasonOf = (work: Promise<unknown>) => work.then(() => 'none').catch((error: Error) => error.message);

describe('a container in a guest that becomes distinct', () => {
  it('is not waited for when the guest does not', async () => {
    const refused = Promise.reject(new Error('no clock'));
    expect(await reasonOf(createDistinct(refused, silent, never))).to.equal('no clock');
  });

  it('is there only when the guest is', async () => {
    const distinct = Promise.withResolvers<void>();
    let done = false;
    const created = createDistinct(distinct.promise, async () => {}, never).then(() => {
      done = true;
    });
    await new Promise(setImmediate);
    expect(done).to.equal(false);
    distinct.resolve();
    await created;
  });

  it('is given up with its command', async () => {
    const command = new AbortController();
    const created = createDistinct(Promise.resolve(), silent, command.signal);
    command.abort(new Error('gone'));
    expect(await reasonOf(created)).to.equal('gone');
  });
});
