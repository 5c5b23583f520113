import { appendFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { silentLog } from '../../../src/base/log.ts';
import { EventLog } from '../../../src/runtime/eventLog.ts';
import { readEvents } from '../../../src/runtime/readEvents.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const never = new AbortController().signal;
const id = 'a'.repeat(64);
const event = (action: string) => ({ type: 'container' as const, action, id, attributes: { name: 'n' } });

describe('the event log', () => {
  it('gives back what happened, also to the next daemon', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'events.log');
    await using log = await EventLog.open(path, silentLog);
    log.record(event('create'));
    log.record(event('start'));
    expect((await log.kept()).map(({ action }) => action)).to.deep.equal(['create', 'start']);
    await using next = await EventLog.open(path, silentLog);
    expect((await next.kept()).map(({ timeNs, ...rest }) => rest)).to.deep.equal([
      event('create'),
      event('start'),
    ]);
  });

  it('loses nothing but the torn end when its daemon died in the middle of a write', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'events.log');
    await using log = await EventLog.open(path, silentLog);
    log.record(event('create'));
    await log.kept();
    await appendFile(path, Buffer.from('\x01\0\0\0\xff\0\0\0torn', 'latin1'));
    await using next = await EventLog.open(path, silentLog);
    next.record(event('destroy'));
    expect((await next.kept()).map(({ action }) => action)).to.deep.equal(['create', 'destroy']);
  });

  it('does not grow beyond its two files', async () => {
    await using directory = await temporaryDirectory();
    await using log = await EventLog.open(join(directory.path, 'events.log'), silentLog, 4096);
    for (let count = 0; count < 500; count++) log.record(event(`a${count}`));
    const kept = await log.kept();
    expect(kept.at(-1)?.action).to.equal('a499');
    expect(kept.length).to.be.within(10, 100);
    for (const file of await readdir(directory.path)) {
      expect((await stat(join(directory.path, file))).size).to.be.at.most(4096);
    }
  });

  it('bounds what an image’s labels add', async () => {
    await using directory = await temporaryDirectory();
    await using log = await EventLog.open(join(directory.path, 'events.log'), silentLog);
    const attributes = Object.fromEntries(
      [...Array(5000).keys()].map((key) => [`label${key}`, 'x'.repeat(10_000)]),
    );
    log.record({ ...event('create'), attributes });
    const [kept] = await log.kept();
    expect(JSON.stringify(kept?.attributes).length).to.be.lessThan(500_000);
  });

  it('follows what happens until the time that was asked for', async () => {
    await using directory = await temporaryDirectory();
    await using log = await EventLog.open(join(directory.path, 'events.log'), silentLog);
    log.record(event('create'));
    const seen: string[] = [];
    const untilMs = Date.now() + 200;
    for await (const { action } of readEvents(log, { untilMs }, never)) {
      seen.push(action);
    }
    // As Docker has it: an end alone asks for the past, too.
    expect(seen).to.deep.equal(['create']);
    expect(Date.now()).to.be.at.least(untilMs - 1);
    const following = readEvents(log, { sinceMs: 0 }, never);
    expect((await following.next()).value?.action).to.equal('create');
    const next = following.next();
    log.record(event('start'));
    expect((await next).value?.action).to.equal('start');
    await following.return(undefined);
  });

  it('tells what was, also when the end comes before it is read', async () => {
    await using directory = await temporaryDirectory();
    await using log = await EventLog.open(join(directory.path, 'events.log'), silentLog);
    for (const action of ['create', 'start'] as const) log.record(event(action));
    const told: string[] = [];
    const end = AbortSignal.abort();
    for await (const { action } of log.read({ past: true, follow: true, end }, never)) told.push(action);
    expect(told).to.deep.equal(['create', 'start']);
  });

  it('tells the times and the order that were, also when the clock was set back, by itself or between two daemons', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'events.log');
    const { now } = Date;
    try {
      for (const [action, atMs] of Object.entries({ create: 9_000_000, start: 1_000_000, die: 2_000_000 })) {
        await using log = await EventLog.open(path, silentLog);
        Date.now = () => atMs;
        log.record(event(action));
      }
    } finally {
      Date.now = now;
    }
    await using log = await EventLog.open(path, silentLog);
    const kept = (await log.kept()).map(({ action, timeNs }) => [action, Number(timeNs / 1_000_000n)]);
    expect(kept).to.deep.equal([
      ['create', 9_000_000],
      ['start', 1_000_000],
      ['die', 2_000_000],
    ]);
    const between: string[] = [];
    for await (const { action } of readEvents(log, { sinceMs: 500_000, untilMs: 3_000_000 }, never))
      between.push(action);
    expect(between).to.deep.equal(['start', 'die']);
  });
});
