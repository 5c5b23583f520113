import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { connect, createServer, Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect } from 'chai';
import { libc } from '../../../src/sys/libc.ts';
import { peerCredentials } from '../../../src/sys/peerCredentials.ts';
import { listenUnix } from '../../../src/sys/unixListener.ts';
import { adoptStreamSocket, connectVsock } from '../../../src/sys/vsock.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

describe('sockets', () => {
  it('tells who connected', async () => {
    await using directory = await temporaryDirectory();
    await using server = createServer().listen(join(directory.path, 's'));
    await once(server, 'listening');
    const client = connect(join(directory.path, 's'));
    const [accepted] = await once(server, 'connection');
    expect(peerCredentials(accepted)).to.deep.equal({
      pid: process.pid,
      uid: process.getuid?.(),
      gid: process.getgid?.(),
    });
    accepted.destroy();
    client.destroy();
    expect(() => peerCredentials(accepted)).to.throw('closed');
  });

  it('listens before anybody serves, for its owner only', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 's');
    using _listener = listenUnix(path);
    expect((await stat(path)).mode & 0o777).to.equal(0o600);
    const client = connect(path);
    await once(client, 'connect');
    client.destroy();
  });

  it('refuses a path that is too long, or taken', async () => {
    await using directory = await temporaryDirectory();
    expect(() => listenUnix(join(directory.path, 'x'.repeat(120)))).to.throw('107 bytes');
    const path = join(directory.path, 's');
    using _listener = listenUnix(path);
    expect(() => listenUnix(path)).to.throw('EADDRINUSE');
  });

  it('adopts a connected descriptor with half-close and back-pressure', async () => {
    const pair = new Int32Array(2);
    expect(libc().socketpair(1, 1, 0, pair)).to.equal(0);
    const adopted = adoptStreamSocket(pair[0] ?? -1);
    const peer = new Socket({ fd: pair[1] ?? -1, allowHalfOpen: true });
    const bytes = 'x'.repeat(4 * 1024 * 1024);
    adopted.pipe(adopted);
    peer.end(bytes);
    expect(await text(peer)).to.equal(bytes);
  });

  it('says when there is no vsock or nobody behind it', async () => {
    const signal = AbortSignal.timeout(5000);
    const failure = await connectVsock({ cid: 4242, port: 1 }, signal).catch((error: unknown) => error);
    expect(failure).to.be.instanceOf(Error).with.property('code').that.matches(/^E/);
  });
});
