// Generate makes Go code of the published protos, as protoc does with the plugins protoc-gen-go and protoc-gen-go-grpc,
// for those who have no protoc. Run it with `go generate`.
package main

import (
	"bytes"
	"context"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"
)

const (
	protos  = "../../proto/proto"
	module  = "github.com/highwater-mq/highwater/examples/go"
	goPlace = module + "/highwaterv1"
)

func main() {
	log.SetFlags(0)
	paths, err := filepath.Glob(filepath.Join(protos, "highwater/v1/*.proto"))
	if err != nil || len(paths) == 0 {
		log.Fatalf("no protos below %s: %v", protos, err)
	}
	var names []string
	parameters := []string{"module=" + module}
	for _, path := range paths {
		name, _ := filepath.Rel(protos, path)
		names = append(names, name)
		parameters = append(parameters, "M"+name+"="+goPlace)
	}
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{protos}},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(context.Background(), names...)
	if err != nil {
		log.Fatal(err)
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: names,
		Parameter:      proto.String(strings.Join(parameters, ",")),
	}
	// A file comes after what it imports, and all that they import is common.proto.
	for _, file := range files {
		described := protoutil.ProtoFromFileDescriptor(file)
		if len(described.Dependency) == 0 {
			request.ProtoFile = append(request.ProtoFile, described)
		}
	}
	for _, file := range files {
		if described := protoutil.ProtoFromFileDescriptor(file); len(described.Dependency) > 0 {
			request.ProtoFile = append(request.ProtoFile, described)
		}
	}
	for _, plugin := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		if err := run(plugin, request); err != nil {
			log.Fatalf("%s: %v", plugin, err)
		}
	}
}

func run(plugin string, request *pluginpb.CodeGeneratorRequest) error {
	input, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	command := exec.Command("go", "tool", plugin)
	command.Stdin, command.Stderr = bytes.NewReader(input), os.Stderr
	output, err := command.Output()
	if err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(output, &response); err != nil {
		return err
	}
	for _, file := range response.File {
		if err := os.MkdirAll(filepath.Dir(file.GetName()), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file.GetName(), []byte(file.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
