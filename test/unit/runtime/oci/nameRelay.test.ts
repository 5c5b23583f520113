import { expect } from 'chai';
import type { NameQuery } from '../../../../src/agent/types.ts';
import { answerQueries } from '../../../../src/runtime/oci/nameRelay.ts';

describe('names asked for by a guest', () => {
  it('are answered, however many: but not more than 256 at a time', async () => {
    const query = Buffer.alloc(12);
    async function* queries(count: number): AsyncGenerator<NameQuery> {
      for (let id = 0; id < count; id += 1)
        yield { $typeName: 'hrun.agent.v1.RelayNamesResponse', id, data: query, overStream: false };
    }
    const answered: (number | undefined)[] = [];
    const answer = async ({ id }: { readonly id?: number }) => void answered.push(id);
    const asked: ((answer: Buffer) => void)[] = [];
    const relay = (count: number) =>
      answerQueries({ queries: queries(count), answer }, () => new Promise((resolve) => asked.push(resolve)));
    await relay(10_000);
    expect(asked).to.have.length(256);
    for (const resolve of asked.splice(0)) resolve(query);
    while (answered.length < 256) await new Promise(setImmediate);
    await relay(1);
    expect(asked).to.have.length(1);
  });
});
