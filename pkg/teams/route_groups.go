package teams

// builtinGroups are the named route groups that exist without configuration. They list the
// public API surfaces of the providers and of LiteLLM; what is not listed is in no group.
func builtinGroups() map[string][]string {
	return map[string][]string{
		"openai_routes":     openAIRoutes(),
		"anthropic_routes":  {"POST /v1/messages", "POST /v1/messages/count_tokens", "/v1/messages/batches", "/v1/messages/batches/*", "/v1/skills", "/v1/skills/*"},
		"google_routes":     googleRoutes(),
		"mcp_routes":        {"/mcp", "/mcp/*", "/{server}/mcp", "/sse", "/sse/messages"},
		"info_routes":       infoRoutes(),
		"management_routes": managementRoutes(),
	}
}

// openAIRoutes accepts each route with and without the version prefix, as LLM proxies do, and the
// Azure form.
func openAIRoutes() []string {
	resources := []string{
		"/chat/completions", "/completions", "/embeddings", "/moderations", "/rerank",
		"/images/generations", "/images/edits", "/images/variations",
		"/audio/speech", "/audio/transcriptions", "/audio/translations",
		"/responses", "/responses/*", "/conversations", "/conversations/*", "/realtime", "/realtime/*",
		"/models", "/models/{model}", "/batches", "/batches/*", "/files", "/files/*", "/uploads", "/uploads/*",
		"/fine_tuning/jobs", "/fine_tuning/jobs/*", "/assistants", "/assistants/*", "/threads", "/threads/*",
		"/vector_stores", "/vector_stores/*", "/containers", "/containers/*", "/videos", "/videos/*", "/search", "/ocr",
	}
	var routes []string
	for _, resource := range resources {
		routes = append(routes, resource, "/v1"+resource)
	}
	return append(routes,
		"POST /openai/deployments/{deployment}/chat/completions", "POST /openai/deployments/{deployment}/completions",
		"POST /openai/deployments/{deployment}/embeddings", "POST /openai/deployments/{deployment}/images/generations",
		"POST /openai/deployments/{deployment}/images/edits", "POST /openai/deployments/{deployment}/audio/speech",
		"POST /openai/deployments/{deployment}/audio/transcriptions", "POST /openai/deployments/{deployment}/audio/translations",
		"POST /engines/{deployment}/chat/completions", "POST /engines/{deployment}/completions", "POST /engines/{deployment}/embeddings")
}

func googleRoutes() []string {
	var routes []string
	for _, version := range []string{"/v1beta", "/v1", ""} {
		for _, action := range []string{"generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"} {
			routes = append(routes, "POST "+version+"/models/{model}:"+action)
		}
	}
	return append(routes, "GET /v1beta/models", "GET /v1beta/models/{model}")
}

func infoRoutes() []string {
	return []string{
		"GET /health", "GET /health/readiness", "GET /health/liveness", "GET /health/liveliness",
		"GET /models", "GET /v1/models", "GET /models/{model}", "GET /v1/models/{model}",
		"GET /model/info", "GET /v1/model/info", "GET /v2/model/info", "GET /model_group/info",
		"GET /key/info", "GET /team/info", "GET /user/info", "GET /organization/info", "GET /customer/info",
	}
}

// managementRoutes are the routes with which an LLM proxy is administered. They are closed to all
// but admins by default, so the list errs on the side of holding too much.
func managementRoutes() []string {
	var routes []string
	for _, root := range []string{
		"/key", "/v2/key", "/team", "/v2/team", "/user", "/v2/user", "/organization", "/customer", "/end_user", "/budget",
		"/model", "/v1/model", "/v2/model", "/model_group", "/access_group", "/v1/access_group", "/jwt", "/project", "/tag",
		"/spend", "/global", "/config", "/credentials", "/cache", "/sso", "/scim", "/invitation", "/audit", "/callbacks",
		"/v1/mcp/server", "/v1/agents", "/agents", "/alerting", "/schedule", "/reload", "/v2/guardrails", "/guardrail", "/prompt", "/vector_store",
		"/cost", "/memory-usage", "/memory-usage-in-mem-cache", "/memory-usage-in-mem-cache-items", "/otel-spans", "/health/test_connection",
		"/health/services", "/active/callbacks", "/provider", "/fallback", "/router", "/service", "/compliance", "/usage", "/tool", "/skill",
		"/guardrails", "/policies", "/prompts", "/settings", "/get", "/update", "/add", "/delete", "/reset", "/admin", "/debug", "/ui",
	} {
		routes = append(routes, root, root+"/*")
	}
	return routes
}
