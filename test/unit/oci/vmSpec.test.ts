import { expect } from 'chai';
import { isHrunError } from '../../../src/base/errors.ts';
import { parseRuntimeSpec } from '../../../src/oci/runtimeSpec.ts';
import { hostVmOf } from '../../../src/oci/vmSpec.ts';

const vmOf = (document: object) =>
  hostVmOf(parseRuntimeSpec(Buffer.from(JSON.stringify({ ociVersion: '1.2.0', ...document }))));
const annotated = (annotations: Record<string, string>) => vmOf({ annotations });

describe('what a bundle says of its microVM', () => {
  it('is nothing, mostly', () => {
    expect(vmOf({})).to.deep.equal({});
    expect(annotated({ 'org.hrun.something': 'else', 'com.example.memory': '1g' })).to.deep.equal({});
  });

  it('is in the vm section', () => {
    const kernel = { path: '/boot/vmlinux', parameters: ['quiet', 'a=b,c'], initrd: '/boot/initrd' };
    expect(vmOf({ vm: { kernel, hwConfig: { vcpus: 2, memory: 268_435_456 } } })).to.deep.equal({
      vcpus: 2,
      memoryBytes: 268_435_456,
      kernelPath: '/boot/vmlinux',
      initramfsPath: '/boot/initrd',
      kernelParameters: ['quiet', 'a=b,c'],
    });
  });

  it('is in annotations, which count more', () => {
    const annotations = {
      'org.hrun.vcpus': '3',
      'org.hrun.memory': '1g',
      'org.hrun.kernel': '/boot/other',
      'org.hrun.kernel-parameters': 'one  two=2',
      'org.hrun.share-cache': 'none',
    };
    const vm = { kernel: { path: '/boot/vmlinux' }, hwConfig: { vcpus: 1, memory: 1 } };
    expect(vmOf({ vm, annotations })).to.deep.equal({
      vcpus: 3,
      memoryBytes: 1024 ** 3,
      kernelPath: '/boot/other',
      kernelParameters: ['one', 'two=2'],
      shareCache: 'none',
    });
  });

  for (const [wrong, field] of [
    [{ annotations: { 'org.hrun.vcpus': '0' } }, 'org.hrun.vcpus'],
    [{ annotations: { 'org.hrun.vcpus': '2 -device x' } }, 'org.hrun.vcpus'],
    [{ annotations: { 'org.hrun.memory': 'much' } }, 'org.hrun.memory'],
    [{ annotations: { 'org.hrun.kernel': 'vmlinux' } }, 'org.hrun.kernel'],
    [{ annotations: { 'org.hrun.kernel-parameters': 'a\tb' } }, 'vm.kernel.parameters'],
    [{ annotations: { 'org.hrun.kernel-parameters': 'x'.repeat(2000) } }, 'vm.kernel.parameters'],
    [{ annotations: { 'org.hrun.share-cache': 'auto,xattrmap=x' } }, 'org.hrun.share-cache'],
    [{ vm: { kernel: { path: 'vmlinux' } } }, 'vm.kernel.path'],
    [{ vm: { kernel: { path: '/boot/vmlinux', parameters: ['a b'] } } }, 'vm.kernel.parameters'],
    [{ vm: { hwConfig: { vcpus: 0 } } }, 'vm.hwConfig.vcpus'],
  ] as const) {
    it(`is refused: ${JSON.stringify(wrong).slice(0, 70)}`, () => {
      try {
        vmOf(wrong);
        expect.fail('it was taken');
      } catch (error) {
        expect(isHrunError(error, 'SPEC_INVALID'), String(error)).to.equal(true);
        expect(String(error)).to.contain(field);
      }
    });
  }
});
