/** Every way hrun fails, as callers and tests may match it. Adding one is an addition to docs/errors.md. */
export type ErrorCode =
  | 'INTERNAL'
  | 'INVALID_ARGUMENT'
  | 'TEMPLATE_INVALID'
  | 'INVALID_CONFIG'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'WRONG_STATE'
  | 'STATE_DAMAGED'
  | 'CANCELLED'
  | 'TIMEOUT'
  | 'DISK_FULL'
  | 'DISK_IN_USE'
  | 'VOLUME_IN_USE'
  | 'QEMU_MISSING'
  | 'QEMU_FAILED'
  | 'JAIL_FAILED'
  | 'KVM_UNAVAILABLE'
  | 'VM_BOOT_FAILED'
  | 'VM_DIED'
  | 'AGENT_UNREACHABLE'
  | 'AGENT_PROTOCOL'
  | 'AGENT_REFUSED'
  | 'COMMAND_NOT_FOUND'
  | 'COMMAND_NOT_EXECUTABLE'
  | 'IMAGE_UNKNOWN'
  | 'IMAGE_INVALID'
  | 'IMAGE_IN_USE'
  | 'DIGEST_MISMATCH'
  | 'LAYER_CORRUPT'
  | 'PLATFORM_MISMATCH'
  | 'REGISTRY_UNREACHABLE'
  | 'REGISTRY_DENIED'
  | 'REGISTRY_PROTOCOL'
  | 'WIRE_PROTOCOL'
  | 'HAND_FAILED'
  | 'NETWORK_FAILED'
  | 'NETWORK_IN_USE'
  | 'PORT_IN_USE'
  | 'SPEC_INVALID'
  | 'SPEC_UNSUPPORTED';

export interface ErrorDetails {
  readonly cause?: unknown;
  /** What the user can do about it: one sentence, shown on a line of its own. */
  readonly hint?: string;
}

/** A failure with a stable code. The message names the object; the hint says what to do; the cause is kept. */
export class HrunError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'HrunError';
    this.code = code;
    this.hint = details.hint;
  }
}

/** True for an HrunError, of the given code if one is named. */
export function isHrunError(error: unknown, code?: ErrorCode): error is HrunError {
  return error instanceof HrunError && (code === undefined || error.code === code);
}

/** The `code` of a Node.js system error ("ENOENT", …), or undefined for anything else. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** The message of anything thrown, for use inside another message. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
