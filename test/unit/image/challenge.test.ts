import { expect } from 'chai';
import fc from 'fast-check';
import { parseChallenges } from '../../../src/image/challenge.ts';

const parsed = (header: string) =>
  parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

describe('parseChallenges', () => {
  it('reads the usual bearer challenge', () => {
    const header =
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b:pull,push"';
    expect(parsed(header)).to.deep.equal([
      [
        'bearer',
        { realm: 'https://auth.docker.io/token', service: 'registry.docker.io', scope: 'a:b:pull,push' },
      ],
    ]);
  });

  it('reads several in one header, with blanks, tokens, escapes and stray commas', () => {
    expect(parsed(', Negotiate, Basic realm = "a\\"b" ,charset=UTF-8, ,BEARER Realm="x"')).to.deep.equal([
      ['negotiate', {}],
      ['basic', { realm: 'a"b', charset: 'UTF-8' }],
      ['bearer', { realm: 'x' }],
    ]);
  });

  it('skips credentials that are no parameters', () => {
    expect(parsed('Negotiate dGVzdA==, Basic realm="x"')).to.deep.equal([
      ['negotiate', {}],
      ['basic', { realm: 'x' }],
    ]);
  });

  it('offers nothing for nonsense', () => {
    for (const header of ['', '"', '=', '"a" b', '<html>', 'ä'.repeat(20_000)]) {
      expect(parsed(header)).to.deep.equal([]);
    }
    expect(parsed('Basic realm="never closed')).to.deep.equal([['basic', {}]]);
  });

  it('ends on any input', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'aB0,=" \t\\/é'), maxLength: 200 }), (header) => {
        parseChallenges(header);
      }),
      { numRuns: 2000 },
    );
    parseChallenges('a'.repeat(1_000_000));
    parseChallenges('"\\'.repeat(500_000));
  });
});
