// Asks sophic-auth who a token belongs to, and whether it may act in a workspace with a scope.
//
//     cd examples/node && npm ci
//     printf %s "$TOKEN" | node ask.mjs acme read
//
// SOPHIC_AUTH_ENDPOINT and SOPHIC_AUTH_CALLER_TOKEN name the service. Exit code: 0 allowed, 1 refused, 2 no answer.
// Without a scope the answer says only whose token it is, which permits nothing: exit code 1.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const protos = process.env.SOPHIC_AUTH_PROTOS ?? fileURLToPath(new URL('../../proto', import.meta.url));
const files = ['sophic/auth/v1/auth_service.proto', 'google/rpc/status.proto', 'google/rpc/error_details.proto'];
const definition = protoLoader.loadSync(files, {
  includeDirs: [protos],
  enums: String,
  longs: String,
  defaults: true,
  oneofs: true,
});
const { AuthService } = grpc.loadPackageDefinition(definition).sophic.auth.v1;

// Introspect changes nothing, so it is safe to retry while the service is unreachable.
const serviceConfig = JSON.stringify({
  methodConfig: [{
    name: [{ service: 'sophic.auth.v1.AuthService', method: 'Introspect' }],
    retryPolicy: {
      maxAttempts: 4,
      initialBackoff: '0.05s',
      maxBackoff: '1s',
      backoffMultiplier: 2,
      retryableStatusCodes: ['UNAVAILABLE'],
    },
  }],
});

export class SophicAuth {
  constructor(endpoint, callerToken) {
    const url = new URL(endpoint);
    const secure = url.protocol === 'https:';
    const credentials = secure ? grpc.credentials.createSsl() : grpc.credentials.createInsecure();
    const address = url.port ? url.host : `${url.host}:${secure ? 443 : 80}`;
    this.auth = new AuthService(address, credentials, { 'grpc.service_config': serviceConfig });
    this.metadata = new grpc.Metadata();
    this.metadata.set('authorization', `Bearer ${callerToken}`);
  }

  // A bad token is an answer, not an error. If the promise is rejected there is no answer: refuse the request.
  introspect({ token, workspace = '', scopes = [], clientIp = '' }) {
    const request = {
      token,
      workspace,
      requiredScopes: scopes.map((scope) => `SCOPE_${scope.toUpperCase()}`),
      clientIp,
    };
    const options = { deadline: Date.now() + 5_000 };
    return new Promise((resolve, reject) => {
      this.auth.introspect(request, this.metadata, options, (error, answer) => {
        if (error) reject(error);
        else resolve(answer);
      });
    });
  }

  close() {
    this.auth.close();
  }
}

// The reason of an error, for programs: one of docs/errors.md. Empty if the service itself did not answer.
export function reason(error) {
  const [bytes] = error.metadata?.get('grpc-status-details-bin') ?? [];
  const { details } = bytes ? definition['google.rpc.Status'].deserialize(bytes) : { details: [] };
  const info = details.find((detail) => detail.type_url.endsWith('/google.rpc.ErrorInfo'));
  return info ? definition['google.rpc.ErrorInfo'].deserialize(info.value).reason : '';
}

// Whether a request that required these scopes may proceed. An answer about the identity only permits nothing.
export function permits(answer, scopes) {
  return answer.active && answer.allowed && scopes.length > 0 && !answer.identityOnly;
}

// The name of the denial, or null. A newer service may send one that this program has no name for: its number.
function denialName(answer) {
  if (answer.allowed) return null;
  const { denial } = answer;
  return typeof denial === 'string' ? denial.replace('DENIAL_', '') : `UNKNOWN_${denial}`;
}

const [workspace, ...scopes] = process.argv.slice(2);
const service = new SophicAuth(process.env.SOPHIC_AUTH_ENDPOINT, process.env.SOPHIC_AUTH_CALLER_TOKEN);
try {
  const token = readFileSync(0, 'utf8');
  const answer = await service.introspect({ token, workspace, scopes });
  const permitted = permits(answer, scopes);
  console.log(JSON.stringify({
    permitted,
    allowed: answer.allowed,
    identity_only: answer.identityOnly,
    denial: denialName(answer),
    http_status: answer.httpStatus,
    www_authenticate: answer.wwwAuthenticate,
    user: answer.user?.id ?? null,
    workspace: answer.workspace?.slug ?? null,
  }));
  process.exitCode = permitted ? 0 : 1;
} catch (error) {
  console.error(`${grpc.status[error.code] ?? 'ERROR'}: ${reason(error)}: ${error.details ?? error.message}`);
  process.exitCode = 2;
} finally {
  service.close();
}
