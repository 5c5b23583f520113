import { expect } from 'chai';
import { createFlights } from '../../../src/base/flights.ts';

const never = new AbortController().signal;

describe('flights', () => {
  it('do work for the same key once and tell everybody', async () => {
    const flights = createFlights<number, string>();
    const gate = Promise.withResolvers<void>();
    let runs = 0;
    const heard: string[] = [];
    const work = async (notify: (event: string) => void) => {
      runs += 1;
      await gate.promise;
      notify('half');
      return 7;
    };
    const all = ['a', 'b'].map((name) => flights.join('k', work, (event) => heard.push(name + event), never));
    gate.resolve();
    expect(await Promise.all(all)).to.deep.equal([7, 7]);
    expect(runs).to.equal(1);
    expect(heard).to.deep.equal(['ahalf', 'bhalf']);
    expect(
      await flights.join(
        'k',
        async () => 8,
        () => {},
        never,
      ),
    ).to.equal(8);
  });

  it('go on for those who still wait, and stop when nobody does', async () => {
    const flights = createFlights<string, never>();
    const gate = Promise.withResolvers<void>();
    let stopped = false;
    const work = async (_: unknown, signal: AbortSignal) => {
      signal.addEventListener('abort', () => {
        stopped = true;
        gate.resolve();
      });
      await gate.promise;
      return 'done';
    };
    const first = new AbortController();
    const second = new AbortController();
    const one = flights.join('k', work, () => {}, first.signal).catch((reason: unknown) => reason);
    const two = flights.join('k', work, () => {}, second.signal).catch((reason: unknown) => reason);
    first.abort('first gone');
    expect(await one).to.equal('first gone');
    expect(stopped).to.equal(false);
    second.abort('second gone');
    expect(await two).to.equal('second gone');
    expect(stopped).to.equal(true);
  });

  it('begin anew only when the abandoned work has ended', async () => {
    const flights = createFlights<string, never>();
    const events: string[] = [];
    const cleanUp = Promise.withResolvers<void>();
    const leaving = new AbortController();
    const abandoned = Promise.withResolvers<void>();
    const slow = async (_: unknown, signal: AbortSignal) => {
      signal.addEventListener('abort', () => abandoned.resolve());
      await abandoned.promise;
      await cleanUp.promise;
      events.push('cleaned');
      throw signal.reason;
    };
    const first = flights.join('k', slow, () => {}, leaving.signal).catch((reason: unknown) => reason);
    leaving.abort('gone');
    await abandoned.promise;
    const quick = async () => {
      events.push('second');
      return 'second';
    };
    const second = flights.join('k', quick, () => {}, never);
    cleanUp.resolve();
    expect(await second).to.equal('second');
    expect(await first).to.equal('gone');
    expect(events).to.deep.equal(['cleaned', 'second']);
  });

  it('forget failures', async () => {
    const flights = createFlights<string, never>();
    const failed = flights.join(
      'k',
      () => Promise.reject(new Error('no')),
      () => {},
      never,
    );
    expect(await failed.catch(String)).to.equal('Error: no');
    expect(
      await flights.join(
        'k',
        async () => 'yes',
        () => {},
        never,
      ),
    ).to.equal('yes');
  });
});
