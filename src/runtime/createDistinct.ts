import { allSettled, withCancel } from '../base/abort.ts';

/**
 * Has a container made in a guest that is asked, at the same time, to be distinct from every other. A guest that does not
 * acknowledge it may answer nothing else either: `create` is given up then.
 * @throws why the guest is not distinct, or what `create` throws
 */
export async function createDistinct(
  distinct: Promise<void>,
  create: (signal: AbortSignal) => Promise<unknown>,
  signal: AbortSignal,
): Promise<void> {
  await withCancel(signal, async (inner, cancel) => {
    distinct.catch(cancel);
    await allSettled([distinct, create(inner)]);
  });
}
