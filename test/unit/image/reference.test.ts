import { expect } from 'chai';
import fc from 'fast-check';
import { HrunError } from '../../../src/base/errors.ts';
import { canonicalName, familiarName, parseReference } from '../../../src/image/reference.ts';

const hex = 'a'.repeat(64);

const component = fc.stringMatching(/^[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}$/);
const domain = fc.oneof(
  fc.constantFrom(
    'docker.io',
    'localhost',
    'localhost:5000',
    '[::1]:5000',
    'registry.example',
    '10.0.0.1:80',
  ),
  fc.stringMatching(/^[a-z0-9]{1,6}\.[a-z0-9]{1,6}(:[0-9]{1,5})?$/),
);
const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}$/);
const digest = fc.stringMatching(/^[0-9a-f]{64}$/).map((text) => `@sha256:${text}`);
const whole = fc
  .tuple(
    fc.option(domain, { nil: undefined }),
    fc.array(component, { minLength: 1, maxLength: 3 }),
    fc.option(tag, { nil: undefined }),
    fc.option(digest, { nil: undefined }),
  )
  // A first component with a dot would be a host.
  .filter(([host, path]) => host !== undefined || path.length === 1 || !path[0]?.includes('.'))
  .map(
    ([host, path, label, hash]) =>
      `${host === undefined ? '' : `${host}/`}${path.join('/')}${label === undefined ? '' : `:${label}`}${hash ?? ''}`,
  );

describe('parseReference', () => {
  for (const [text, canonical, familiar] of [
    ['busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['busybox:1.36', 'docker.io/library/busybox:1.36', 'busybox:1.36'],
    ['library/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['docker.io/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['index.docker.io/a/b', 'docker.io/a/b:latest', 'a/b:latest'],
    ['localhost/x', 'localhost/x:latest', 'localhost/x:latest'],
    ['localhost:5000/a/b:t', 'localhost:5000/a/b:t', 'localhost:5000/a/b:t'],
    ['[::1]:5000/x', '[::1]:5000/x:latest', '[::1]:5000/x:latest'],
    ['Host/x', 'Host/x:latest', 'Host/x:latest'],
    ['a.b/c', 'a.b/c:latest', 'a.b/c:latest'],
    [`x@sha256:${hex}`, `docker.io/library/x@sha256:${hex}`, `x@sha256:${hex}`],
    [`x:t@sha256:${hex}`, `docker.io/library/x:t@sha256:${hex}`, `x:t@sha256:${hex}`],
    [
      'docker.io/library/localhost/x',
      'docker.io/library/localhost/x:latest',
      'docker.io/library/localhost/x:latest',
    ],
  ] as const) {
    it(`reads ${text}`, () => {
      const reference = parseReference(text);
      expect(canonicalName(reference)).to.equal(canonical);
      expect(familiarName(reference)).to.equal(familiar);
    });
  }

  for (const text of [
    '',
    ':tag',
    'a:',
    'a:-x',
    'a/',
    '/a',
    'a//b',
    'a/../b',
    '../a',
    'a b',
    'a\nb',
    'a;b',
    'a,b',
    '-a',
    'a-',
    'a..b',
    'x@sha256:abc',
    `x@sha512:${hex}${hex}`,
    hex,
    'host:99999999/x',
    'http://host/x',
    'user:pw@host.example/x',
    `${'a'.repeat(200)}/${'b'.repeat(100)}`,
    'x'.repeat(10_000),
    `a:${'t'.repeat(129)}`,
    'ä',
  ]) {
    it(`refuses ${JSON.stringify(text.slice(0, 40))}`, () => {
      expect(() => parseReference(text))
        .to.throw(HrunError)
        .with.property('code', 'INVALID_ARGUMENT');
    });
  }

  it('suggests lower case', () => {
    const failure = (text: string) => {
      try {
        parseReference(text);
      } catch (error) {
        return error instanceof HrunError ? error.hint : undefined;
      }
      return undefined;
    };
    expect(failure('BusyBox')).to.equal('did you mean busybox?');
    expect(failure('host.example/Team/App:Tag')).to.equal('did you mean host.example/team/app:Tag?');
  });

  it('answers any text with a reference or with INVALID_ARGUMENT, quickly', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...'aA0._-/:@ []') })), (text) => {
        try {
          parseReference(text);
        } catch (error) {
          expect(error).to.be.instanceOf(HrunError).with.property('code', 'INVALID_ARGUMENT');
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('reads its own spellings back as the same reference', () => {
    fc.assert(
      fc.property(whole, (text) => {
        fc.pre(!/^[0-9a-f]{64}$/.test(text));
        const reference = parseReference(text);
        expect(parseReference(canonicalName(reference))).to.deep.equal(reference);
        expect(parseReference(familiarName(reference))).to.deep.equal(reference);
      }),
      { numRuns: 1000 },
    );
  });
});
