// Asks sophic-auth who a token belongs to, and whether it may act in a workspace with a scope.
//
//	buf generate --template buf.gen.go.yaml
//	printf %s "$TOKEN" | go run ask.go acme read
//
// SOPHIC_AUTH_ENDPOINT and SOPHIC_AUTH_CALLER_TOKEN name the service. Exit code: 0 allowed, 1 refused, 2 no answer.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	authv1 "github.com/sophic/sophic-auth/gen/go/sophic/auth/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// ask introspects the token. A bad token is an answer. An error means that there is no answer: refuse the request.
func ask(token, workspace string, scopes []string) (*authv1.IntrospectResponse, error) {
	// In the clear, for loopback only. Elsewhere: grpc.WithTransportCredentials(credentials.NewTLS(nil)).
	address := strings.TrimPrefix(os.Getenv("SOPHIC_AUTH_ENDPOINT"), "http://")
	connection, err := grpc.Dial(address, grpc.WithInsecure())
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	request := &authv1.IntrospectRequest{Token: token, Workspace: workspace}
	for _, scope := range scopes {
		number := authv1.Scope_value["SCOPE_"+strings.ToUpper(scope)]
		request.RequiredScopes = append(request.RequiredScopes, authv1.Scope(number))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	caller := "Bearer " + os.Getenv("SOPHIC_AUTH_CALLER_TOKEN")
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", caller)
	return authv1.NewAuthServiceClient(connection).Introspect(ctx, request)
}

// reason returns the reason of an error, for programs: one of docs/errors.md.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "auth.sophic.so" {
			return info.Reason
		}
	}
	return ""
}

func main() {
	token, _ := io.ReadAll(os.Stdin)
	workspace, scopes := "", []string{}
	if len(os.Args) > 1 {
		workspace, scopes = os.Args[1], os.Args[2:]
	}
	answer, err := ask(string(token), workspace, scopes)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%v: %s: %s\n", status.Code(err), reason(err), status.Convert(err).Message())
		os.Exit(2)
	}
	// A request without scopes asks only whose token it is, and permits nothing.
	permitted := answer.Allowed && !answer.IdentityOnly && len(scopes) > 0
	shown := map[string]interface{}{
		"permitted":        permitted,
		"allowed":          answer.Allowed,
		"identity_only":    answer.IdentityOnly,
		"http_status":      answer.HttpStatus,
		"www_authenticate": answer.WwwAuthenticate,
		"workspace":        answer.GetWorkspace().GetSlug(),
	}
	if user := answer.GetUser(); user != nil {
		shown["user"] = user.Id
	}
	// `allowed` decides. The denial of a newer service may be a number without a name.
	if !answer.Allowed {
		shown["denial"] = strings.TrimPrefix(answer.Denial.String(), "DENIAL_")
	}
	json.NewEncoder(os.Stdout).Encode(shown)
	if !permitted {
		os.Exit(1)
	}
}
