import { expect } from 'chai';
import { featuresJson } from '../../../src/oci/features.ts';
import { entryOf, fieldPaths } from '../../../src/oci/ociFields.ts';

describe('the table of fields', () => {
  it('has an entry for every field of the schema', () => {
    const paths = fieldPaths();
    expect(paths).to.include.members([
      'mounts[].options',
      'linux.seccomp.syscalls[].args[].op',
      'annotations',
    ]);
    expect(paths.filter((path) => entryOf(path) === undefined)).to.deep.equal([]);
  });

  it('takes the nearest entry', () => {
    expect(entryOf('linux.seccomp.syscalls[].args[].op')?.place).to.equal('guest');
    expect(entryOf('linux.seccomp.listenerPath')?.place).to.equal('refused');
    expect(entryOf('unheard.of')).to.equal(undefined);
  });
});

describe('featuresJson', () => {
  it('says what the specification requires', () => {
    const features = JSON.parse(featuresJson(['org.hrun.kernel']));
    expect(features).to.include({ ociVersionMin: '1.0.0', ociVersionMax: '1.3.0' });
    expect(features.hooks).to.have.length(6);
    expect(features.linux.seccomp.archs).to.deep.equal([
      'SCMP_ARCH_X32',
      'SCMP_ARCH_X86',
      'SCMP_ARCH_X86_64',
    ]);
    expect(features.potentiallyUnsafeConfigAnnotations).to.deep.equal(['org.hrun.kernel']);
  });
});
