import type { Metadata } from '@grpc/grpc-js';
import { type ErrorCode, HrunError } from '../base/errors.ts';
import { printable } from '../base/text.ts';
import { FailureReason as Reasons } from './generated/hrun/agent/v1/agent_pb.ts';
import type { FailureReason } from './types.ts';

const reasonKey = 'hrun-reason';
const maxMessageLength = 1000;

/** The part of grpc-js's ServiceError that is looked at. */
interface CallStatus {
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
}

/** What the agent answered instead of a result; the cause of the HrunError that is thrown. */
class AgentStatus extends Error {
  readonly status: number;
  readonly reason: FailureReason;

  constructor(status: number, reason: FailureReason, message: string) {
    super(message);
    this.name = 'AgentStatus';
    this.status = status;
    this.reason = reason;
  }
}

const codeOfReason: Readonly<Record<FailureReason, ErrorCode>> = {
  UNSPECIFIED: 'AGENT_REFUSED',
  COMMAND_NOT_FOUND: 'COMMAND_NOT_FOUND',
  COMMAND_NOT_EXECUTABLE: 'COMMAND_NOT_EXECUTABLE',
  UNKNOWN_USER: 'INVALID_ARGUMENT',
  BAD_WORKING_DIRECTORY: 'INVALID_ARGUMENT',
  MOUNT_FAILED: 'AGENT_REFUSED',
  DISK_FULL: 'DISK_FULL',
  CORRUPT_ARCHIVE: 'LAYER_CORRUPT',
  UNSAFE_PATH: 'LAYER_CORRUPT',
  TOO_MANY_ENTRIES: 'LAYER_CORRUPT',
  NO_SUCH_CONTAINER: 'NOT_FOUND',
  NO_SUCH_PROCESS: 'NOT_FOUND',
  ALREADY_EXISTS: 'ALREADY_EXISTS',
  NO_SUCH_DEVICE: 'AGENT_REFUSED',
  NO_SUCH_PATH: 'NOT_FOUND',
  NOT_A_DIRECTORY: 'INVALID_ARGUMENT',
  WRONG_STATE: 'WRONG_STATE',
  INVALID_REQUEST: 'AGENT_REFUSED',
  NOT_PERSONALIZED: 'AGENT_REFUSED',
  UNSUPPORTED: 'INVALID_ARGUMENT',
  HOOK_FAILED: 'AGENT_REFUSED',
};

// grpc status codes (grpc.io, "Status codes and their use") that the transport or the library makes
const codeOfStatus: Readonly<Record<number, ErrorCode>> = {
  1: 'AGENT_UNREACHABLE', // CANCELLED, though nobody here cancelled
  8: 'AGENT_PROTOCOL', // RESOURCE_EXHAUSTED: a message over the limit
  12: 'AGENT_PROTOCOL', // UNIMPLEMENTED
  13: 'AGENT_PROTOCOL', // INTERNAL
  14: 'AGENT_UNREACHABLE', // UNAVAILABLE
};

/** Turns what a call threw into an HrunError; `call` names it in the message. */
export function agentFailure(call: string, error: unknown): Error {
  if (!isCallStatus(error)) return error instanceof Error ? error : new Error(String(error));
  const reason = reasonOf(error.metadata);
  const message = printable(decodeRest(error.details), maxMessageLength);
  const cause = new AgentStatus(error.code, reason ?? 'UNSPECIFIED', message);
  if (reason !== undefined) return new HrunError(codeOfReason[reason], message, { cause });
  const code = codeOfStatus[error.code] ?? 'AGENT_REFUSED';
  return new HrunError(code, `the agent did not carry out ${call}: ${message}`, { cause });
}

/** Why the agent refused, when `error` is its refusal. */
export function failureReasonOf(error: unknown): FailureReason | undefined {
  const status = error instanceof HrunError ? error.cause : undefined;
  return status instanceof AgentStatus ? status.reason : undefined;
}

/** grpc-js decodes a message as a URI, which leaves the two characters that mean something in one (grpc, PROTOCOL-HTTP2.md). */
function decodeRest(details: string): string {
  return details.replaceAll('%23', '#').replaceAll(/%3f/gi, '?');
}

function reasonOf(metadata: Metadata): FailureReason | undefined {
  const [value] = metadata.get(reasonKey);
  const name = String(value ?? '').replace(/^FAILURE_REASON_/, '');
  return isReason(name) ? name : undefined;
}

function isReason(name: string): name is FailureReason {
  return Object.hasOwn(Reasons, name) && Number.isNaN(Number(name));
}

function isCallStatus(error: unknown): error is CallStatus {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'number' &&
    'details' in error &&
    'metadata' in error
  );
}
