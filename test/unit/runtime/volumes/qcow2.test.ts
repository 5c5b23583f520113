import { expect } from 'chai';
import { isHrunError } from '../../../../src/base/errors.ts';
import { checkQcow2 } from '../../../../src/runtime/volumes/qcow2.ts';

/** As `qemu-img create` makes one, as far as it is looked at. */
function header(change: (bytes: Buffer) => void = () => {}): Buffer {
  const bytes = Buffer.alloc(104);
  bytes.write('QFI\xfb', 'latin1');
  bytes.writeUInt32BE(3, 4);
  bytes.writeUInt32BE(16, 20);
  bytes.writeBigUInt64BE(1n << 30n, 24);
  change(bytes);
  return bytes;
}

function refusalOf(bytes: Buffer): string {
  try {
    checkQcow2(bytes, 'disk x');
    return 'nothing';
  } catch (error) {
    return isHrunError(error, 'INVALID_ARGUMENT') ? error.message : String(error);
  }
}

describe('a qcow2 of a user', () => {
  it('is taken when it stands for itself, also when it was not closed', () => {
    expect(refusalOf(header())).to.equal('nothing');
    expect(refusalOf(header((bytes) => bytes.writeBigUInt64BE(1n, 72)))).to.equal('nothing');
  });

  for (const [what, change, message] of [
    ['a backing file', (b: Buffer) => b.writeBigUInt64BE(104n, 8), 'has a backing file'],
    ['the length of a backing file', (b: Buffer) => b.writeUInt32BE(5, 16), 'has a backing file'],
    ['an external data file', (b: Buffer) => b.writeBigUInt64BE(4n, 72), 'has an external data file'],
    ['encryption', (b: Buffer) => b.writeUInt32BE(2, 32), 'is encrypted'],
    ['damage', (b: Buffer) => b.writeBigUInt64BE(2n, 72), 'is marked as corrupt'],
    ['unknown features', (b: Buffer) => b.writeBigUInt64BE(1n << 40n, 72), 'features that are not known'],
    ['another version', (b: Buffer) => b.writeUInt32BE(1, 4), 'version 1'],
    ['another magic', (b: Buffer) => b.write('json', 'latin1'), 'is no qcow2 image'],
  ] as const) {
    it(`is refused with ${what}`, () => {
      expect(refusalOf(header((bytes) => void change(bytes))))
        .to.contain('disk x ')
        .and.contain(message);
    });
  }

  it('is refused when it is cut off', () => {
    expect(refusalOf(header().subarray(0, 40))).to.contain('is no qcow2 image');
    expect(refusalOf(Buffer.alloc(0))).to.contain('is no qcow2 image');
  });
});
