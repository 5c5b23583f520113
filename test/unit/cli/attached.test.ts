import { expect } from 'chai';
import { HrunError } from '../../../src/base/errors.ts';
import type { AttachIo } from '../../../src/runtime/attachIo.ts';
import type { ExecRequest } from '../../../src/runtime/runRequest.ts';
import type { ContainerDetails } from '../../../src/runtime/views.ts';
import { aId, runCli } from '../../helpers/cli.ts';

const timing = { phases: [{ name: 'boot', durationMs: 12.34 }] };

async function textOf(io: AttachIo): Promise<string> {
  let text = '';
  const signal = new AbortController().signal;
  for await (const { bytes } of io.stdin?.read(0n, signal) ?? []) text += Buffer.from(bytes).toString();
  return text;
}

/** Whose containers are all there. */
const known = { inspect: async () => ({}) as ContainerDetails };

describe('attached commands', () => {
  it("end with the workload's exit code", async () => {
    const run = async () => ({ kind: 'exited', containerId: aId, exitCode: 42 }) as const;
    expect((await runCli(['run', 'i'], { containers: { run } })).code).to.equal(42);
  });

  it('print the id when detached', async () => {
    const run = async () => ({ kind: 'detached', containerId: aId, timing }) as const;
    const { code, stdout, stderr } = await runCli(['run', '-d', '--timing', 'i'], { containers: { run } });
    expect([code, stdout]).to.deep.equal([0, `${aId}\n`]);
    expect(stderr).to.equal('boot       12.3 ms\ntotal      12.3 ms\n');
  });

  for (const [code, exitCode] of [
    ['COMMAND_NOT_FOUND', 127],
    ['COMMAND_NOT_EXECUTABLE', 126],
  ] as const) {
    it(`end with ${exitCode} for ${code}`, async () => {
      const fail = async () => {
        throw new HrunError(code, 'no\u001b[2J such\nthing', { hint: 'try another' });
      };
      for (const argv of [
        ['run', 'i'],
        ['exec', 'c', 'x'],
      ]) {
        const outcome = await runCli(argv, { containers: { ...known, run: fail, exec: fail } });
        expect(outcome.code).to.equal(exitCode);
        expect(outcome.stderr).to.equal('hrun: no?[2J such\nthing\nhint: try another\n');
      }
    });
  }

  it('end with 125 when hrun itself fails to run, and with 1 otherwise, as with Docker', async () => {
    const fail = async () => {
      throw new HrunError('INTERNAL', 'no');
    };
    const engine = { containers: { ...known, run: fail, exec: fail } };
    expect((await runCli(['run', 'i'], engine)).code).to.equal(125);
    expect((await runCli(['exec', 'c', 'x'], engine)).code).to.equal(1);
  });

  it('write the cidfile when the container is there, before it runs', async () => {
    const order: string[] = [];
    const { written } = await runCli(['run', '--cidfile', 'cid', 'i'], {
      containers: {
        async run(_request, caller, _io, signal) {
          await caller.containerCreated(aId, signal);
          order.push('started');
          return { kind: 'exited', containerId: aId, exitCode: 0 };
        },
      },
    });
    expect([...written]).to.deep.equal([['cid', aId]]);
    expect(order).to.deep.equal(['started']);
  });

  it('give stdin to the workload only with -i', async () => {
    const seen: string[] = [];
    const run = async (_request: unknown, _caller: unknown, io: AttachIo) => {
      seen.push(await textOf(io));
      return { kind: 'exited', containerId: aId, exitCode: 0 } as const;
    };
    await runCli(['run', 'i'], { containers: { run } }, { stdin: 'abc' });
    await runCli(['run', '-i', 'i'], { containers: { run } }, { stdin: 'a\x10\x11c' });
    expect(seen).to.deep.equal(['', 'a\x10\x11c']);
  });

  it('detach on the keys, with a terminal', async () => {
    const run = async (_request: unknown, _caller: unknown, io: AttachIo) => {
      expect(await textOf(io)).to.equal('ab\x10');
      expect(io.detached.aborted).to.equal(true);
      return { kind: 'detached', containerId: aId } as const;
    };
    const caller = { stdin: 'ab\x10\x10\x11c', isTerminal: { stdin: true } };
    const outcome = await runCli(['run', '-it', 'i'], { containers: { run } }, caller);
    expect([outcome.code, outcome.stderr]).to.deep.equal([0, '\r\nread escape sequence\n']);
  });

  it('exec in no relative directory', async () => {
    const { code, stderr } = await runCli(['exec', '-w', 'rel', 'web', 'x'], { containers: known });
    expect([code, stderr]).to.deep.equal([126, 'hrun: the working directory "rel" must be absolute\n']);
  });

  it('exec as asked', async () => {
    const asked: ExecRequest[] = [];
    const exec = async (request: ExecRequest) => {
      asked.push(request);
      return { kind: 'exited', containerId: aId, exitCode: 3 } as const;
    };
    const argv = ['exec', '-i', '-u', 'root', '-w', '/tmp', '-e', 'A=1', 'web', 'sh', '-c', 'exit 3'];
    expect((await runCli(argv, { containers: { ...known, exec } })).code).to.equal(3);
    expect(asked).to.deep.equal([
      {
        container: 'web',
        command: ['sh', '-c', 'exit 3'],
        openStdin: true,
        terminal: false,
        detach: false,
        environment: [{ name: 'A', value: '1' }],
        privileged: false,
        user: 'root',
        workingDir: '/tmp',
      },
    ]);
  });
});
