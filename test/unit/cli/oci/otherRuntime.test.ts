import { expect } from 'chai';
import { HrunError } from '../../../../src/base/errors.ts';
import { wordsForOther } from '../../../../src/cli/oci/otherRuntime.ts';
import type { OciName } from '../../../../src/runtime/oci/ociEngine.ts';
import { runCli } from '../../../helpers/cli.ts';

class Became extends Error {}

/** A host on which runc has, or gets, containers; `there`: those that it knows. */
function hostOf({
  given = [],
  there = [],
  underWay = false,
}: {
  given?: readonly string[];
  there?: readonly string[];
  underWay?: boolean;
} = {}) {
  const handedOver = new Map(given.map((id) => [id, 'runc']));
  const became: (readonly string[])[] = [];
  const ran: (readonly string[])[] = [];
  const oci = {
    has: ({ id }: OciName) => handedOver.has(id),
    wantsHostNetwork: async (bundle: string) => bundle === '/host',
    create: async () => {},
    list: () => [],
    handedOver: {
      runtimeOf: ({ id }: OciName) => handedOver.get(id),
      inScope: async () => [...handedOver].map(([id, runtime]) => ({ id, runtime, underWay })),
      add: async ({ id }: OciName, runtime: string) => void handedOver.set(id, runtime),
      forget: async ({ id }: OciName) => void handedOver.delete(id),
    },
  };
  const hands = {
    become: async ({ args }: { readonly args: readonly string[] }): Promise<never> => {
      became.push(args);
      throw new Became();
    },
    runProgram: async ({ args }: { readonly args: readonly string[] }) => {
      ran.push(args);
      const id = args.at(-1) ?? '';
      const list = there.map((one) => ({
        id: one,
        pid: 7,
        status: 'running',
        bundle: '/host',
        created: 'now',
        owner: 'root',
      }));
      const known = args.includes('list') || there.includes(id);
      return {
        code: known ? 0 : 1,
        signal: undefined,
        timedOut: false,
        stdout: Buffer.from(args.includes('list') ? JSON.stringify(list) : ''),
        stderr: known ? '' : 'container does not exist\n',
      };
    },
  };
  const hrun = async (...argv: string[]) => {
    const outcome = await runCli(argv, { oci }, { hands }).catch((error: unknown) => {
      if (error instanceof Became) return undefined;
      throw error;
    });
    return outcome;
  };
  return { hrun, handedOver, became, ran };
}

const flag = ['--host-network-runtime', 'runc'];

describe("a container that wants the host's network", () => {
  it('goes to the runtime that is named for it, with the same words', async () => {
    const { hrun, became, handedOver } = hostOf();
    await hrun('--log', '/l', ...flag, 'create', '--bundle', '/host', '--preserve-fds', '1', 'c');
    expect(became).to.deep.equal([
      ['runc', '--log', '/l', 'create', '--bundle', '/host', '--preserve-fds', '1', 'c'],
    ]);
    expect([...handedOver]).to.deep.equal([['c', 'runc']]);
    await hrun('oci', 'kill', 'c', '9');
    await hrun('oci', 'exec', 'c', 'sh', '--host-network-runtime');
    expect(became.slice(1)).to.deep.equal([
      ['runc', 'kill', 'c', '9'],
      ['runc', 'exec', 'c', 'sh', '--host-network-runtime'],
    ]);
  });

  it('is not handed over without a runtime for it, and others never are', async () => {
    const { hrun, became } = hostOf();
    await hrun('create', '--bundle', '/host', 'c');
    await hrun(...flag, 'create', '--bundle', '/own', 'd');
    expect(became).to.deep.equal([]);
  });

  it('is not handed over to hrun itself', async () => {
    const outcome = await hostOf().hrun(
      '--host-network-runtime=/bin/hrun',
      'create',
      '--bundle',
      '/host',
      'c',
    );
    expect([outcome?.code, outcome?.stderr]).to.satisfy(
      ([code, text]: [number, string]) => code === 1 && text.includes('itself'),
    );
  });

  it('is forgotten when it is deleted, or cannot be handed over', async () => {
    const { hrun, handedOver, ran } = hostOf({ given: ['c', 'gone'], there: ['c'] });
    expect((await hrun('delete', 'c'))?.code).to.equal(0);
    expect(ran).to.deep.equal([['runc', 'delete', 'c']]);
    expect((await hrun('delete', 'gone'))?.stderr).to.equal('container does not exist\n');
    expect([...handedOver.keys()]).to.deep.equal(['gone']);
    const failing = hostOf();
    const become = async () => {
      throw new HrunError('HAND_FAILED', 'runc: no such file');
    };
    const oci = { ...failing, has: () => false, wantsHostNetwork: async () => true };
    const forgotten: string[] = [];
    const outcome = await runCli(
      [...flag, 'create', '--bundle', '/host', 'c'],
      {
        oci: {
          ...oci,
          handedOver: {
            runtimeOf: () => undefined,
            inScope: async () => [],
            add: async () => {},
            forget: async ({ id }) => void forgotten.push(id),
          },
        },
      },
      { hands: { become } },
    );
    expect([outcome.code, outcome.stderr.includes('runc: no such file')]).to.deep.equal([1, true]);
    expect(forgotten).to.deep.equal(['c']);
  });

  it('leaves its name when its runtime knows it no more', async () => {
    const { hrun, became, handedOver } = hostOf({ given: ['c'] });
    expect((await hrun('create', '--bundle', '/own', 'c'))?.code).to.equal(0);
    expect([became, [...handedOver]]).to.deep.equal([[], []]);
  });

  it('keeps its name while it is being made, though its runtime does not know it yet', async () => {
    const { hrun, became, handedOver } = hostOf({ given: ['c'], underWay: true });
    expect(JSON.parse((await hrun('list', '--format', 'json'))?.stdout ?? '')).to.equal(null);
    await hrun('create', '--bundle', '/own', 'c');
    expect([became.length, [...handedOver.keys()]]).to.deep.equal([1, ['c']]);
  });

  it('is listed with the others', async () => {
    const { hrun, handedOver } = hostOf({ given: ['c', 'gone'], there: ['c', 'stranger'] });
    const listed = JSON.parse((await hrun('list', '--format', 'json'))?.stdout ?? '');
    expect(listed.map(({ id }: { id: string }) => id)).to.deep.equal(['c']);
    expect([...handedOver.keys()]).to.deep.equal(['c']);
  });

  it('is spoken of without the option that only hrun has', () => {
    expect(
      wordsForOther(['--root', '/r', '--host-network-runtime=x', '--debug', 'list', '-q']),
    ).to.deep.equal(['--root', '/r', '--debug', 'list', '-q']);
  });
});
