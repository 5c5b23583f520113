import { expect } from 'chai';
import { type FlagSpec, parseGoFlags } from '../../../../src/cli/oci/goFlags.ts';

const specs: FlagSpec[] = [
  { name: 'force', aliases: ['f'], kind: 'bool', description: '' },
  { name: 'bundle', aliases: ['b'], kind: 'string', description: '' },
  { name: 'env', aliases: ['e'], kind: 'strings', description: '' },
];

describe("options as Go's flag package takes them", () => {
  it('takes one dash or two, "=" or the next argument', () => {
    for (const argv of [['-bundle', 'x'], ['--bundle=x'], ['-b', 'x'], ['-b=x']]) {
      const { flags, args } = parseGoFlags(specs, [...argv, 'id', '--force']);
      expect(flags.text('bundle'), argv.join(' ')).to.equal('x');
      expect(args).to.deep.equal(['id', '--force']);
    }
  });

  it('gives a boolean a value with "=" only', () => {
    expect(parseGoFlags(specs, ['-f', 'false']).args).to.deep.equal(['false']);
    expect(parseGoFlags(specs, ['--force=false']).flags.bool('force')).to.equal(false);
    expect(parseGoFlags(specs, ['--force']).flags.bool('force')).to.equal(true);
    expect(() => parseGoFlags(specs, ['--force=x'])).to.throw(
      'invalid boolean value "x" for -force: parse error',
    );
  });

  it('collects what may be given several times and ends at "--"', () => {
    const { flags, args } = parseGoFlags(specs, ['-e', 'A=b', '--env=C=d', '--', '-e']);
    expect(flags.list('env')).to.deep.equal(['A=b', 'C=d']);
    expect(args).to.deep.equal(['-e']);
  });

  it("complains in the parser's words", () => {
    expect(() => parseGoFlags(specs, ['--nope'])).to.throw('flag provided but not defined: -nope');
    expect(() => parseGoFlags(specs, ['--bundle'])).to.throw('flag needs an argument: -bundle');
  });
});
