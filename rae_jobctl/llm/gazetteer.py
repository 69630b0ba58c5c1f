"""Names whose type a small statistical model often gets wrong: technologies above all, and common first names."""

from __future__ import annotations

import re

from rae_jobctl.llm.text import entity_name
from rae_jobctl.llm.types import EntityType

_TECHNOLOGY = """
aiohttp airflow ansible apache arrow asyncio asyncpg aws axios azure bash bert bigquery c++ c# caddy cassandra celery ceph chroma
clickhouse cloudflare conda confluent consul cpython css cuda cursor cython dagster dask databricks datadog debian deno django docker
dynamodb elasticsearch electron elixir elk envoy erlang etcd express fastapi fedora ffmpeg firebase flask flink flower fluentd gcc gcp
git github gitlab go golang gpt gradle grafana graphql grpc gunicorn h5netcdf hadoop haskell helm hive html httpx hugging face ios istio
java javascript jax jenkins jetty jinja jinja2 jit joblib jquery json jupyter jwt k8s kafka keras keycloak kibana kind kopf kotlin
kubernetes kustomize lambda langchain latex ldap libpq lightgbm lightning linux llama llvm loki lucene macos mariadb markdown
matplotlib memcached minio ml flow mlflow mongodb mqtt mypy mysql nats neo4j netcdf networkx next.js nginx nix node node.js nodejs npm
numba numpy oauth ollama onnx openai openshift openssl opentelemetry openvino oracle pandas parquet perl pgbouncer pgvector php
pinecone pip playwright plotly podman poetry polars postgres postgresql prefect presto prometheus protobuf psql pulsar puppet pydantic
pyarrow pytest python pytorch pytorch lightning qdrant rabbitmq rails ray react redis redshift requests rest ruby ruff rust s3 sagemaker
sass scala scikit-learn scikit learn scipy seaborn selenium sentry sklearn snowflake solr spacy spark splunk spring sql sqlalchemy
sqlite ssh ssl streamlit swift systemd tableau tailwind tensorflow terraform tls tornado traefik transformers trino typer typescript
ubuntu urllib3 uv uvicorn vault vite vue weaviate webassembly websocket windows xarray xgboost xml yaml zarr zookeeper zstd
github actions visual studio code apache airflow apache kafka apache spark amazon s3 google cloud react native pg_dump pgcrypto
faiss milvus langfuse langgraph vllm claude gemini mistral qwen imbalanced-learn statsmodels pillow opencv setuptools hatchling valkey
"""
_MULTIWORD = (
    "hugging face", "ml flow", "pytorch lightning", "scikit learn", "github actions", "visual studio code", "apache airflow",
    "apache kafka", "apache spark", "amazon s3", "google cloud", "react native", "pg dump", "imbalanced learn", "next.js",
    "dask array", "dask dataframe", "elastic search", "google chrome", "spring boot", "sql server", "power bi", "ci/cd",
)  # fmt: skip
_FIRST_NAMES = """
aaron adam adrian ahmed alan albert alejandro alex alexander alexandra alice alicia amanda amelia amit amy ana andrea andreas andres
andrew andy angela anita anna anne anthony antonio aisha ben benjamin bernd bob brian bruce carla carlos carmen carol caroline catherine
charles charlotte chen chloe chris christian christina christine christopher claire clara claudia craig cristina daniel daniela dana
dave david deborah denis diana diego dmitri dmitry dominik donald dorothy ed eduardo edward elena eleanor elizabeth ella emily emma eric
erik ethan eva evelyn fabian fatima felix fernando florian francesca francisco frank gabriel gary george gerald giulia grace greg
guillaume hannah hans harold harry heather helen henry hiroshi hugo ian igor ines ingrid irene isabel isabella ivan jack jacob jacques
jakub james jan jana jane janet jason javier jean jeff jennifer jeremy jessica jim joan joanna joe johan johannes john jonas jonathan
jorge jose joseph joshua juan judith julia julian julie jun karen karl kate katherine katie kevin kim klaus kristin larry laura lena leo
leon leonardo li lina linda lisa liu lucas lucia luis luke magdalena manuel marc marco marcus margaret maria marie mario mark marta martin
martina mary matt matteo matthew max maya megan mei mia michael michelle miguel mike mohamed mohammed monica nadia nancy natalia natalie
nathan nicholas nick nicole nikolai nina noah nora olga oliver olivia omar oscar pablo patricia patrick paul paula pedro peter philip
pierre priya rachel rafael rahul raj ralph raymond rebecca ricardo richard rita robert roberto roger rosa ruth ryan sam samantha samuel
sandra sara sarah scott sean sebastian sergei sergey sharon simon sofia sophia sophie stefan stephanie stephen steve steven susan sven
takashi tanya tara tatiana teresa thomas tim timothy tobias tom tomas tony ulrich valentina vanessa vera victor victoria viktor vincent
walter wei wendy werner william wolfgang xavier yan yuki yusuf zoe bohdan bruno carl dennis doug elsa farid gita hana jamal kofi lars
"""
_ORGANISATION_WORDS = frozenset(
    "inc inc. corp corp. corporation company co ltd ltd. llc gmbh ag plc foundation university institute labs lab group bank committee "
    "ministry agency team department college association consortium alliance holdings ventures partners society council press".split()
)
_TECH = frozenset(entity_name(word) for word in _TECHNOLOGY.split()) | frozenset(entity_name(name) for name in _MULTIWORD)
_PEOPLE = frozenset(_FIRST_NAMES.split())
#: A dotted path or a call, as code is written.
_CODE = re.compile(r"[a-z_]\.[a-z_]|\(\)|/")
_FROM_NER = {
    "PERSON": EntityType.PERSON,
    "ORG": EntityType.ORGANIZATION,
    "NORP": EntityType.ORGANIZATION,
    "GPE": EntityType.LOCATION,
    "LOC": EntityType.LOCATION,
    "FAC": EntityType.LOCATION,
    "PRODUCT": EntityType.PRODUCT,
    "EVENT": EntityType.EVENT,
    "WORK_OF_ART": EntityType.DOCUMENT,
    "LAW": EntityType.DOCUMENT,
    "DATE": EntityType.DATE,
    "TIME": EntityType.DATE,
    "MONEY": EntityType.QUANTITY,
    "PERCENT": EntityType.QUANTITY,
    "QUANTITY": EntityType.QUANTITY,
    "CARDINAL": EntityType.QUANTITY,
    "ORDINAL": EntityType.QUANTITY,
}


def known_type(name: str) -> EntityType | None:
    """The type that lists and shapes give a normalised name, None when they know nothing of it."""
    if name in _TECH or name.rstrip("0123456789.") in _TECH:
        return EntityType.TECHNOLOGY
    words = name.split()
    if words[-1] in _ORGANISATION_WORDS and len(words) > 1:
        return EntityType.ORGANIZATION
    if words[-1] in ("project", "programme", "initiative") and len(words) > 1:
        return EntityType.PROJECT
    if len(words) > 1 and words[0] in _TECH and words[-1][0].isdigit():
        return EntityType.TECHNOLOGY
    return None


def type_of(name: str, label: str, proper: bool) -> EntityType:
    """The type of a normalised name.

    Args:
        label: the statistical model's label, empty when it saw no entity.
        proper: whether the text writes it as a proper noun.
    """
    known = known_type(name)
    if known is not None:
        return known
    if proper and name.split()[0] in _PEOPLE and len(name.split()) <= 3:
        return EntityType.PERSON
    if _CODE.search(name) and label != "PERSON":
        return EntityType.TECHNOLOGY
    if label in _FROM_NER:
        return _FROM_NER[label]
    return EntityType.OTHER if proper else EntityType.CONCEPT
