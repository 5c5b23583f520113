import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ShareHost } from '../pool/shareHost.ts';
import { idleMountPoints } from '../pool/warmGuest.ts';
import type { ProcessIdentity } from '../sys/processes.ts';
import { StandInLink } from './oci/standInLink.ts';
import { type StandInLauncher, startStandIn } from './ownStandIn.ts';
import { shareServerArguments } from './shareServer.ts';

const startLimitMs = 30_000;
const endLimitMs = 10_000;
const emptyShare = 'empty';

/** What a microVM that waits for a bundle has its share from: a stand-in of the daemon's own, in no container's name. */
export class StandInHost implements ShareHost {
  readonly emptyShare = emptyShare;
  readonly ended: Promise<void>;
  readonly #link: StandInLink;
  readonly #runDir: string;

  private constructor(link: StandInLink, runDir: string) {
    const gone = Promise.withResolvers<void>();
    this.ended = gone.promise;
    if (link.gone.aborted) gone.resolve();
    else link.gone.addEventListener('abort', () => gone.resolve(), { once: true });
    this.#link = link;
    this.#runDir = runDir;
  }

  /**
   * Starts one; its sockets, and the directory that it serves, lie in `runDir`.
   * @throws HrunError HAND_FAILED, WIRE_PROTOCOL, INTERNAL without a share server or the native binary
   */
  static async start(
    runDir: string,
    serverPath: string | undefined,
    launcher: StandInLauncher,
    signal: AbortSignal,
  ): Promise<StandInHost> {
    await using undo = new AsyncDisposableStack();
    const { controlPath, socketPath } = pathsIn(runDir);
    const empty = join(runDir, emptyShare);
    for (const point of ['/', ...idleMountPoints]) await mkdir(join(empty, point), { recursive: true });
    undo.defer(() => rm(empty, { recursive: true, force: true }));
    // Not given up half-way: nobody would know of a process that is just coming up.
    const limit = AbortSignal.timeout(startLimitMs);
    await startStandIn(
      {
        controlPath,
        socketPath,
        server: shareServerArguments(serverPath),
        shares: [{ name: emptyShare, path: empty, readonly: true, create: false }],
      },
      launcher,
      limit,
    );
    const host = undo.use(await StandInHost.adopt(runDir, limit));
    signal.throwIfAborted();
    undo.move();
    return host;
  }

  /** The one that an earlier daemon had started. @throws HrunError WIRE_PROTOCOL, VM_DIED when it is gone */
  static async adopt(runDir: string, signal: AbortSignal): Promise<StandInHost> {
    return new StandInHost(await StandInLink.dial(pathsIn(runDir).controlPath, signal), runDir);
  }

  get process(): ProcessIdentity {
    return this.#link.process;
  }

  get socketPath(): string {
    return pathsIn(this.#runDir).socketPath;
  }

  async closeShares(signal: AbortSignal): Promise<void> {
    await this.#link.closeShares(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#link.exit(0, AbortSignal.timeout(endLimitMs)).catch(() => this.#link.kill());
    const files = [...Object.values(pathsIn(this.#runDir)), join(this.#runDir, emptyShare)];
    for (const path of files) await rm(path, { recursive: true, force: true });
  }
}

function pathsIn(runDir: string): { readonly controlPath: string; readonly socketPath: string } {
  return { controlPath: join(runDir, 'stand-in.sock'), socketPath: join(runDir, 'share.sock') };
}
