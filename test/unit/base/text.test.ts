import { expect } from 'chai';
import { clip, counted, printable } from '../../../src/base/text.ts';

describe('foreign text', () => {
  it('cannot move the cursor, forge a line or reverse the reading order', () => {
    expect(printable('a\u001b[2Jb\r\nc\u202ed\u0085')).to.equal('a?[2Jb??c?d?');
  });
  it('keeps other scripts', () => expect(printable('ünï 日本')).to.equal('ünï 日本'));
  it('is bounded', () => expect(printable('x'.repeat(1000), 10)).to.equal(`${'x'.repeat(9)}…`));
  it('is not cut inside a surrogate pair', () => expect(clip('a😀b', 3)).to.equal('a…'));
  it('counts', () =>
    expect([counted(1, 'image'), counted(2, 'image')]).to.deep.equal(['1 image', '2 images']));
});
