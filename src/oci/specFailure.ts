import { HrunError } from '../base/errors.ts';
import { printable } from '../base/text.ts';

/** A value that the spec does not allow. `field` is its JSON path. */
export function invalidField(field: string, what: string): HrunError {
  return new HrunError(
    'SPEC_INVALID',
    `config.json is invalid: ${printable(field)}: ${printable(what, 400)}`,
  );
}

/** A value that the spec allows and that cannot be had. */
export function unsupportedField(field: string, what: string, hint?: string): HrunError {
  const message = `config.json asks for what cannot be done: ${printable(field)}: ${printable(what, 400)}`;
  return new HrunError('SPEC_UNSUPPORTED', message, hint === undefined ? {} : { hint });
}

/** Refuses the first of the fields that is set. */
export function refuseFields(
  fields: readonly (readonly [field: string, isSet: boolean, why: string])[],
): void {
  for (const [field, isSet, why] of fields) if (isSet) throw unsupportedField(field, why);
}
