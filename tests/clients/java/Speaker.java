import co.elastic.clients.elasticsearch.ElasticsearchClient;
import co.elastic.clients.elasticsearch._types.ElasticsearchException;
import co.elastic.clients.elasticsearch._types.HealthStatus;
import co.elastic.clients.elasticsearch.core.msearch.RequestItem;
import co.elastic.clients.json.JsonpSerializable;
import co.elastic.clients.json.jackson.JacksonJsonpMapper;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Speaks to the endpoint with Elasticsearch's Java client, as told by lines of stdin, as speaker.py does in Python.
 *
 * <p>An answer is printed as the client has read it into its classes: what it does not know, or did not find, is not in
 * it. Names of aggregations begin with their type.
 */
public final class Speaker {
    private static final JacksonJsonpMapper MAPPER = new JacksonJsonpMapper();
    private static final ObjectMapper JSON = MAPPER.objectMapper();

    public static void main(String[] unused) throws IOException {
        Map<String, ElasticsearchClient> clients = new HashMap<>();
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonNode order = JSON.readTree(line);
            String url = order.get("url").asText(), token = order.get("token").asText();
            ElasticsearchClient client = clients.computeIfAbsent(
                    url + " " + token, key -> ElasticsearchClient.of(b -> b.host(url).token(token).jsonMapper(MAPPER)));
            out.println(outcome(client, order.get("name").asText(), order.get("arguments")));
        }
        System.exit(0); // The clients' threads would go on.
    }

    private static ObjectNode outcome(ElasticsearchClient client, String name, JsonNode arguments) throws IOException {
        ObjectNode out = JSON.createObjectNode();
        long begun = System.nanoTime();
        try {
            out.set("answer", json(answer(client, name, arguments)));
        } catch (ElasticsearchException e) {
            out.set("raised", JSON.valueToTree(classes(e)));
            out.put("status", e.status()).put("error", e.error().type()).put("text", e.getMessage());
            out.set("info", json(e.response()));
        } catch (IOException | RuntimeException e) {
            out.set("raised", JSON.valueToTree(classes(e)));
            out.put("text", e.getCause() == null ? e.toString() : e + ", caused by " + e.getCause());
        }
        out.put("seconds", (System.nanoTime() - begun) / 1e9);
        out.putArray("sent");
        out.putArray("warnings");
        return out;
    }

    @SuppressWarnings("deprecation") // Rollup is, in Elasticsearch.
    private static JsonpSerializable answer(ElasticsearchClient client, String name, JsonNode a) throws IOException {
        List<String> index = names(a, "index"), fields = names(a, "fields");
        String id = a.path("id").asText(), body = a.path("body").toString();
        return switch (name) {
            case "info" -> client.info();
            case "health" -> client.cluster().health(b -> b.waitForStatus(HealthStatus.Yellow));
            case "field_caps" -> client.fieldCaps(b -> b.index(index).fields(fields));
            case "get_mapping" -> client.indices().getMapping(b -> b.index(index));
            case "get_field_mapping" -> client.indices().getFieldMapping(b -> b.index(index).fields(fields));
            case "search" -> client.search(b -> b.index(index).withJson(new StringReader(body)), ObjectNode.class);
            case "msearch" -> client.msearch(b -> b.searches(searches(a.get("body"))), ObjectNode.class);
            case "rollup_search" -> client.rollup()
                    .withTransportOptions(o -> o.setParameter("typed_keys", "true")) // Its own answers need it.
                    .rollupSearch(b -> b.index(index).withJson(new StringReader(body)), ObjectNode.class);
            case "put_job" -> client.rollup().putJob(b -> b.id(id).withJson(new StringReader(body)));
            case "get_jobs" -> client.rollup().getJobs(b -> b.id(id));
            case "start_job" -> client.rollup().startJob(b -> b.id(id));
            case "stop_job" ->
                    client.rollup().stopJob(b -> b.id(id).waitForCompletion(true).timeout(t -> t.time("10s")));
            case "delete_job" -> client.rollup().deleteJob(b -> b.id(id));
            case "get_rollup_caps" -> client.rollup().getRollupCaps(b -> b.id(id));
            case "get_rollup_index_caps" -> client.rollup().getRollupIndexCaps(b -> b.index(index));
            default -> throw new IllegalArgumentException(name);
        };
    }

    private static List<RequestItem> searches(JsonNode lines) {
        List<RequestItem> items = new ArrayList<>();
        for (int i = 0; i < lines.size(); i += 2) {
            StringReader header = new StringReader(lines.get(i).toString());
            StringReader body = new StringReader(lines.get(i + 1).toString());
            items.add(RequestItem.of(s -> s.header(h -> h.withJson(header)).body(q -> q.withJson(body))));
        }
        return items;
    }

    private static JsonNode json(JsonpSerializable value) throws IOException {
        StringWriter text = new StringWriter();
        try (var generator = MAPPER.jsonProvider().createGenerator(text)) {
            value.serialize(generator, MAPPER);
        }
        return JSON.readTree(text.toString());
    }

    private static List<String> names(JsonNode arguments, String name) {
        return List.of(arguments.path(name).asText().split(","));
    }

    private static List<String> classes(Exception e) {
        List<String> names = new ArrayList<>();
        for (Class<?> of = e.getClass(); of != null; of = of.getSuperclass()) {
            names.add(of.getSimpleName());
        }
        return names;
    }
}
