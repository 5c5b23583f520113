// A host process that boots a guest in the directory given, prints the record of it, and goes on until it is killed:
//   flood: talks to the agent as fast as it can    watch: only keeps the control connection
import { newVmId } from '../../src/base/ids.ts';
import { bootMicroVm } from '../../src/vmm/qemu/boot.ts';
import { connectTestAgent, testShape, testVmmDeps } from './microvm.ts';

const [runDir = '', mode = '', initramfsPath = testShape.initramfsPath] = process.argv.slice(2);
const never = new AbortController().signal;
const shape = { ...testShape, initramfsPath };
const vm = await bootMicroVm({ id: newVmId(), runDir, shape }, await testVmmDeps(), never);
if (mode === 'watch') {
  console.log(JSON.stringify(vm.record));
} else {
  const { client } = await connectTestAgent(vm);
  console.log(JSON.stringify(vm.record));
  // requests far larger than a frame, so that most moments are in the middle of one
  const files = [{ destination: '/x', content: new Uint8Array(900_000), mode: 0o644 }];
  for (;;) await client.createContainer({ containerId: 'none', files }, never).catch(() => {});
}
