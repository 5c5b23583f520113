// Runs inside a guest, beside its agent: the host's end of the contract over AF_VSOCK, by way of the loopback.
// Prints one line with what it saw.
import { connectAgent } from '../../src/agent/connection.ts';
import { vsockDial } from '../../src/agent/vsockDial.ts';
import { connectVsock } from '../../src/sys/vsock.ts';
import { agentVsockPort } from '../../src/vmm/qemu/qemuMicroVm.ts';

const localCid = 1;
const soon = () => AbortSignal.timeout(60_000);
const dial = vsockDial((signal) => connectVsock({ cid: localCid, port: agentVsockPort }, signal));

async function talk(): Promise<object> {
  await using connection = await connectAgent(dial, { socketPath: '/agent.sock' }, soon());
  const { client, hello } = connection;
  const files = [{ destination: '/x', content: new Uint8Array(900_000), mode: 0o644 }];
  const refused = await client
    .createContainer({ containerId: 'c', files }, soon())
    .catch((error: unknown) => (error instanceof Error ? error.name : 'nothing'));
  return { protocol: hello.protocol, refused };
}

async function outcome(): Promise<object> {
  const nobody = await connectVsock({ cid: localCid, port: 9 }, soon()).then(
    () => 'connected',
    (error: NodeJS.ErrnoException) => error.code,
  );
  return { first: await talk(), second: await talk(), nobody };
}

const seen = await outcome().catch((error: unknown) => ({ failure: String(error) }));
console.log(`VSOCK ${JSON.stringify(seen)}`);
