import { execFile } from 'node:child_process';
import { openSync } from 'node:fs';
import { access, type FileHandle, open, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { backoff } from '../../../src/base/backoff.ts';
import { readConfig } from '../../../src/base/config.ts';
import { silentLog } from '../../../src/base/log.ts';
import { type Paths, pathsFrom } from '../../../src/base/paths.ts';
import { onceItWorks } from '../../../src/daemon/onceItWorks.ts';
import { runDaemon } from '../../../src/daemon/start.ts';
import type { Engine } from '../../../src/runtime/engine.ts';
import { FakeFrontDoor } from '../../helpers/frontDoor.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const emptyEngine = {
  close: async () => {},
  containers: { list: async () => [] },
  images: {},
  system: { running: () => [], damages: () => [] },
} as unknown as Engine;

/** Settles when the daemon has said who it is. */
async function serving({ daemonFacts }: Paths): Promise<void> {
  const pauses = backoff(1, 20);
  const isThere = () =>
    access(daemonFacts).then(
      () => true,
      () => false,
    );
  while (!(await isThere())) await pauses.pause(AbortSignal.timeout(5000));
}

async function startDaemon(config = '{}') {
  await using stack = new AsyncDisposableStack();
  const directory = stack.use(await temporaryDirectory());
  const at = (name: string) => join(directory.path, name);
  const paths = pathsFrom({ HRUN_ROOT: at('root'), HRUN_RUN: at('run'), HRUN_CONFIG: at('config.json') }, 0);
  await writeFile(paths.configFile, config);
  const stop = new AbortController();
  const options = { paths, codeDir: at(''), listen: { path: at('socket') }, searchPath: '', log: silentLog };
  // As the real one, it does not open with a wrong configuration.
  const openEngine = async () => {
    await readConfig(paths.configFile);
    return emptyEngine;
  };
  const ended = runDaemon({ ...options, openEngine }, stop.signal);
  stack.defer(async () => {
    stop.abort();
    await ended;
  });
  await Promise.race([serving(paths), ended]);
  const owned = stack.move();
  return {
    paths,
    ended,
    stop: () => stop.abort(),
    call: (...argv: string[]) => FakeFrontDoor.call(at('socket'), { argv }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A descriptor of its own, since the daemon closes what it is given. */
async function fdOf(pipe: string, reader: FileHandle): Promise<number> {
  const fd = openSync(pipe, 'r');
  await reader.close();
  return fd;
}

describe('the daemon', () => {
  it('serves commands and says who it is', async () => {
    await using daemon = await startDaemon();
    const front = daemon.call('ps', '-q');
    expect(await front.outcome).to.deep.equal({ code: 0 });
    const facts = JSON.parse(await readFile(daemon.paths.daemonFacts, 'utf8'));
    expect(facts).to.include({ pid: process.pid });
    const status = daemon.call('daemon', 'status', '--format', 'json');
    await status.outcome;
    expect(JSON.parse(status.stdout.toString())).to.include({ pid: process.pid, activeCommands: 0 });
  });

  it('ends when told to, after the answer, and takes its facts along', async () => {
    await using daemon = await startDaemon();
    const front = daemon.call('daemon', 'stop');
    expect(await front.outcome).to.deep.equal({ code: 0 });
    await daemon.ended;
    expect(await readdir(daemon.paths.run)).to.not.include('hrund.json');
  });

  it('does not share its root with another daemon', async () => {
    await using daemon = await startDaemon();
    expect(await daemon.call('ps').outcome).to.deep.equal({ code: 0 });
    await using directory = await temporaryDirectory();
    const run = join(directory.path, 'run');
    const paths = pathsFrom(
      { HRUN_ROOT: daemon.paths.root, HRUN_RUN: run, HRUN_CONFIG: daemon.paths.configFile },
      0,
    );
    const stop = new AbortController();
    const path = join(directory.path, 'socket');
    const options = {
      paths,
      codeDir: run,
      listen: { path },
      searchPath: '',
      log: silentLog,
      openEngine: async () => emptyEngine,
    };
    const ended = runDaemon(options, stop.signal);
    await serving(paths);
    const front = FakeFrontDoor.call(path, { argv: ['ps'] });
    expect(await front.outcome).to.deep.equal({ code: 1 });
    expect(front.stderr.toString()).to.include(`hrun: ${daemon.paths.root} is in use by another daemon`);
    stop.abort();
    await ended;
  });

  it('is usable again once its configuration is right', async () => {
    await using daemon = await startDaemon('{"memroy": "1g"}');
    const front = daemon.call('ps');
    expect(await front.outcome).to.deep.equal({ code: 1 });
    expect(front.stderr.toString()).to.include('unknown key "memroy"');
    await writeFile(daemon.paths.configFile, '{"memory": "1g"}');
    expect(await daemon.call('ps').outcome).to.deep.equal({ code: 0 });
  });

  it('ends on its signal', async () => {
    await using daemon = await startDaemon();
    daemon.stop();
    await daemon.ended;
  });

  it('rejects when its keeper is gone', async () => {
    await using directory = await temporaryDirectory();
    const at = (name: string) => join(directory.path, name);
    const paths = pathsFrom({ HRUN_ROOT: at('root'), HRUN_RUN: at('run'), HRUN_CONFIG: at('c') }, 0);
    // A pipe whose writer is gone already: opened by both ends first, since opening one waits for the other.
    const pipe = at('pipe');
    await promisify(execFile)('mkfifo', [pipe]);
    const [reader, writer] = await Promise.all([open(pipe, 'r'), open(pipe, 'w')]);
    const lifeline = await fdOf(pipe, reader);
    await writer.close();
    const options = {
      paths,
      codeDir: at(''),
      listen: { path: at('socket') },
      lifeline,
      searchPath: '',
      log: silentLog,
    };
    const outcome = await runDaemon(
      { ...options, openEngine: async () => emptyEngine },
      new AbortController().signal,
    ).catch((error: Error) => error.message);
    expect(outcome).to.equal('the keeper is gone');
  });
});

describe('what is done once it works', () => {
  it('is tried again after a failure, and never after a success', async () => {
    let attempts = 0;
    const open = onceItWorks(async () => {
      attempts += 1;
      if (attempts === 1) throw new Error('not yet');
      return attempts;
    });
    const first = await Promise.allSettled([open(), open()]);
    expect(first.map(({ status }) => status)).to.deep.equal(['rejected', 'rejected']);
    expect(await Promise.all([open(), open()])).to.deep.equal([2, 2]);
    expect(attempts).to.equal(2);
  });
});
