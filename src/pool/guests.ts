import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../base/errors.ts';
import { newVmId, type VmId } from '../base/ids.ts';
import type { PhaseClock } from '../base/phases.ts';
import type { TemplateScope, WishedScope } from '../base/templateScope.ts';
import type { VmRequest, VmShape } from '../vmm/microVm.ts';
import { usualNicSlots } from '../vmm/nicSlots.ts';
import { restoreMicroVm } from '../vmm/qemu/boot.ts';
import { bootGuest } from './bootedGuest.ts';
import type { BuildDeps } from './buildTemplate.ts';
import { GuestVm, personalizeGuest } from './guestVm.ts';
import type { Pool } from './pool.ts';
import type { PooledGuest } from './readyGuest.ts';
import type { ShareHost } from './shareHost.ts';
import { blamesTemplate, type Templates } from './templates.ts';
import type { ReadyRoot } from './warmGuest.ts';

export interface GuestWish {
  readonly shape: VmShape;
  /** `none`: share no memory with anybody, which means a boot. */
  readonly scope: WishedScope;
  /** Boot although a clone could be had. */
  readonly cold: boolean;
  /** Whether its jail may be weaker than that of others. */
  readonly weaker: boolean;
  /** The share of host directories that the guest gets: such a device cannot be restored (QEMU 7.2). */
  readonly share?: {
    readonly tag: string;
    /** Whether a share server that the daemon has started can serve them (docs/stand-in.md, "Several in one tree"). */
    readonly lendable: boolean;
  };
  /** Network devices, where more are needed than every microVM has. */
  readonly nicSlots?: number;
  /** A root that a waiting clone can have mounted: an image, and a writable disk of the default size with nothing on it. */
  readonly root?: ReadyRoot;
  /** A shape that is likely to come again gets its template at its first launch, others at their second. */
  readonly common: boolean;
}

/** What a guest gets to see. */
export type GuestParts = Pick<VmRequest, 'imageDisk' | 'scratchDisk' | 'share' | 'allowWeakerJail'> & {
  readonly hostname: string;
};

/** Where a guest will be, before it is there: to be written down first. Disposing gives up one that was not opened. */
export interface Reservation extends AsyncDisposable {
  readonly id: VmId;
  /** Made, with mode 0700; removed with the guest. */
  readonly runDir: string;
  /** The writable disk of a guest that has one already: to be moved to where `open` is told that it is. */
  readonly scratchPath: string | undefined;
  /** Serves the share of a guest that has one already; ends with the reservation. */
  readonly shareHost: ShareHost | undefined;
  /**
   * @throws HrunError as bootMicroVm and GuestVm.agent, VM_BOOT_FAILED with the console's last lines
   */
  open(parts: GuestParts, phases: PhaseClock, signal: AbortSignal): Promise<OpenedGuest>;
}

export interface OpenedGuest extends AsyncDisposable {
  readonly guest: GuestVm;
  /**
   * Settles when the guest has acknowledged that it is distinct from every other. Its agent may be asked for more
   * meanwhile and does that after it, but no process of a container may start before.
   * @throws HrunError AGENT_PROTOCOL when it did not acknowledge, or as GuestVm.agent
   */
  readonly distinct: Promise<void>;
}

export interface GuestsDeps {
  readonly templates: Templates;
  readonly pool: Pool;
  build(signal: AbortSignal): Promise<BuildDeps>;
}

type Plan =
  | { readonly kind: 'cold'; readonly reason: string }
  | { readonly kind: 'cloned'; readonly key: string; readonly scope: TemplateScope }
  | {
      readonly kind: 'pooled';
      readonly claimed: PooledGuest;
      readonly template: { readonly key: string; readonly scope: TemplateScope } | undefined;
    };

/** Guests for containers, each had in the fastest way that its shape allows. */
export class Guests {
  readonly #deps: GuestsDeps;
  /** Templates that were wished for once. */
  readonly #seen = new Set<string>();

  constructor(deps: GuestsDeps) {
    this.#deps = deps;
  }

  /** To be held from before `reserve` until the guest's container runs: nothing is made ready beside it. */
  launching(): Disposable {
    return this.#deps.pool.launching();
  }

  async reserve(wish: GuestWish, signal: AbortSignal): Promise<Reservation> {
    const plan = await this.#plan(wish, signal);
    if (plan.kind === 'pooled') return this.#reservation(plan.claimed, wish, plan);
    const { vmsDir } = await this.#deps.build(signal);
    const id = newVmId();
    const runDir = join(vmsDir, id);
    await mkdir(runDir, { mode: 0o700 });
    return this.#reservation({ id, runDir }, wish, plan);
  }

  async #plan(
    { shape, scope, cold, weaker, share, nicSlots, root, common }: GuestWish,
    signal: AbortSignal,
  ): Promise<Plan> {
    if (cold) return { kind: 'cold', reason: 'asked for' };
    if (weaker) return { kind: 'cold', reason: 'its jail may be weaker' };
    if (nicSlots !== undefined) return { kind: 'cold', reason: `it has ${nicSlots} network devices` };
    const { templates, pool } = this.#deps;
    if (share !== undefined) {
      const { lendable, tag } = share;
      const served = { tag, nicSlots: usualNicSlots(true) };
      const claimed = lendable && root ? pool.claimServed(shape, served, root) : undefined;
      if (claimed !== undefined) return { kind: 'pooled', claimed, template: undefined };
      return { kind: 'cold', reason: 'a share of host directories cannot be restored' };
    }
    if (scope.kind === 'none') return { kind: 'cold', reason: 'it shares no memory with others' };
    const key = await templates.keyOf(shape, scope, signal);
    const claimed = root && pool.claim(key, shape, scope, root);
    if (claimed !== undefined) return { kind: 'pooled', claimed, template: { key, scope } };
    const again = this.#seen.has(key);
    this.#seen.add(key);
    if (common || again || (await templates.has(key))) return { kind: 'cloned', key, scope };
    return { kind: 'cold', reason: 'the first launch of its shape' };
  }

  #reservation(
    { id, runDir }: { readonly id: VmId; readonly runDir: string },
    { shape, nicSlots }: GuestWish,
    plan: Plan,
  ): Reservation {
    let unopened = plan.kind === 'pooled' ? plan.claimed.guest : undefined;
    const open = async (parts: GuestParts, phases: PhaseClock, signal: AbortSignal) => {
      const { hostname, ...disks } = parts;
      const request: VmRequest = { id, runDir, shape, ...(nicSlots && { nicSlots }), ...disks };
      await using undo = new AsyncDisposableStack();
      unopened = undefined;
      const guest = undo.use(await this.#guest(plan, request, phases, signal));
      // asked for in order over one connection, which is answered in order
      await guest.agent(signal);
      const distinct = personalizeGuest(guest, hostname, signal).then(() => phases.end('agent'));
      distinct.catch(() => {}); // told when it is awaited
      const owned = undo.move();
      return { guest, distinct, [Symbol.asyncDispose]: () => owned.disposeAsync() };
    };
    const { scratch, host: shareHost } = plan.kind === 'pooled' ? plan.claimed : {};
    return {
      id,
      runDir,
      scratchPath: scratch?.path,
      shareHost,
      open,
      [Symbol.asyncDispose]: async () => {
        await unopened?.[Symbol.asyncDispose]();
        await shareHost?.[Symbol.asyncDispose]();
        await scratch?.[Symbol.asyncDispose]();
        await rm(runDir, { recursive: true, force: true });
      },
    };
  }

  async #guest(plan: Plan, request: VmRequest, phases: PhaseClock, signal: AbortSignal): Promise<GuestVm> {
    if (plan.kind === 'pooled') {
      // nothing may come between a claimed guest and who disposes of it
      const woken = wakePooled(plan.claimed, phases, signal);
      // a share server serves one microVM: what it was lent cannot be had by another
      if (plan.template === undefined) return await woken;
      const guest = await woken.catch((error: unknown) => this.#diedWaiting(error, signal));
      if (guest !== undefined) return guest;
    }
    const deps = await this.#deps.build(signal);
    const template = plan.kind === 'cloned' ? plan : plan.kind === 'pooled' ? plan.template : undefined;
    let reason = plan.kind === 'cold' ? plan.reason : '';
    if (template !== undefined) {
      try {
        return await this.#clone(template.key, template.scope, request, deps, phases, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (!blamesTemplate(error)) throw error;
        deps.log.warn({ template: template.key, err: error }, 'a template was no good: it is dropped');
        await this.#deps.templates.remove(template.key);
        reason = `its template was no good: ${messageOf(error)}`;
      }
    }
    phases.launched({ kind: 'cold', reason });
    return await bootGuest(request, deps, deps.limits, phases, signal);
  }

  /** A clone that died before anything of its container was in it is replaced. @throws every other failure */
  async #diedWaiting(error: unknown, signal: AbortSignal): Promise<undefined> {
    signal.throwIfAborted();
    if (!blamesTemplate(error)) throw error;
    const { log } = await this.#deps.build(signal);
    log.warn({ err: error }, 'a clone had died while it waited');
    return undefined;
  }

  async #clone(
    key: string,
    scope: TemplateScope,
    request: VmRequest,
    deps: BuildDeps,
    phases: PhaseClock,
    signal: AbortSignal,
  ): Promise<GuestVm> {
    using lease = await this.#deps.templates.use(key, request.shape, scope, signal);
    phases.end(lease.built ? 'template' : 'plan');
    await using undo = new AsyncDisposableStack();
    const vm = await restoreMicroVm(request, lease.template, false, deps, signal);
    const guest = undo.use(new GuestVm(vm, deps.limits));
    phases.end('spawn');
    phases.launched({ kind: 'cloned' });
    await guest.agent(signal, 'restoring');
    phases.end('restore');
    undo.move();
    return guest;
  }
}

async function wakePooled({ guest }: PooledGuest, phases: PhaseClock, signal: AbortSignal): Promise<GuestVm> {
  await using undo = new AsyncDisposableStack();
  undo.use(guest);
  phases.launched({ kind: 'pooled' });
  await guest.vm.resume(signal);
  phases.end('wake');
  undo.move();
  return guest;
}
