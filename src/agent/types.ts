import type { MessageInitShape } from '@bufbuild/protobuf';
import type * as contract from './generated/hrun/agent/v1/agent_pb.ts';

// What is sent: plain objects, every field optional, oneofs as { case, value }.
export type PersonalizeInit = MessageInitShape<typeof contract.PersonalizeRequestSchema>;
export type ConfigureNetworkInit = MessageInitShape<typeof contract.ConfigureNetworkRequestSchema>;
export type CreateContainerInit = MessageInitShape<typeof contract.CreateContainerRequestSchema>;
export type PrepareRootInit = MessageInitShape<typeof contract.PrepareRootRequestSchema>;
export type MountInit = MessageInitShape<typeof contract.MountSchema>;
export type ProcessInit = MessageInitShape<typeof contract.ProcessSchema>;
export type UpdateContainerInit = MessageInitShape<typeof contract.UpdateContainerRequestSchema>;
export type ExecInit = MessageInitShape<typeof contract.ExecRequestSchema>;
export type NameAnswerInit = MessageInitShape<typeof contract.NameAnswerSchema>;
export type SignalInit = MessageInitShape<typeof contract.SignalRequestSchema>;
export type ReleaseProcessInit = MessageInitShape<typeof contract.ReleaseProcessRequestSchema>;
export type UnpackLayersInit = MessageInitShape<typeof contract.UnpackLayersRequestSchema>;
export type PackPathInit = MessageInitShape<typeof contract.PackPathRequestSchema>;
export type ExtractArchiveInit = MessageInitShape<typeof contract.ExtractArchiveRequestSchema>;
export type StatPathInit = MessageInitShape<typeof contract.StatPathRequestSchema>;
export type AttachOpenInit = MessageInitShape<typeof contract.AttachOpenSchema>;
/** What may follow the AttachOpen. */
export type AttachInput = Exclude<
  NonNullable<MessageInitShape<typeof contract.AttachRequestSchema>['message']>,
  { case: 'open' } | { case?: undefined }
>;

export type {
  ContainerInfo,
  CreateContainerResponse,
  ExecResponse,
  HelloResponse,
  OutputChunk,
  PackPathResponse,
  PersonalizeResponse,
  ProcessExit,
  ProcessInfo,
  RelayNamesResponse as NameQuery,
  StatPathResponse,
  UnpackLayersResponse,
} from './generated/hrun/agent/v1/agent_pb.ts';

/** What a process says, in order; never without a case. */
export type AttachOutput = Exclude<contract.AttachResponse['message'], { case: undefined }>;

/** Names of the contract's FailureReason, without its prefix. */
export type FailureReason = keyof typeof contract.FailureReason;
